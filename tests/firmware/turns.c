/* SPDX-License-Identifier: Apache-2.0 */
/* Two models of one export and one of another, by their prefixes `lamp` and `door`, in turns: the exit status is how
 * often one was wrong. */
#include <stdio.h>
#include <string.h>
#include "door_app.h"
#include "door_vectors.h"
#include "lamp_app.h"
#include "lamp_vectors.h"
void systick_handler(void);
void systick_handler(void) {}
static LAMP_ALIGNED uint8_t lamp_memory[2][(LAMP_ARENA_SIZE + 15) / 16 * 16];
static DOOR_ALIGNED uint8_t door_memory[DOOR_ARENA_SIZE];
static lamp_model lamps[2];
static door_model door;
int main(void) {
    const int8_t *of_lamps[2], *of_door;
    int wrong = lamp_model_init(&lamps[0], lamp_memory[0], sizeof lamp_memory[0]) != LAMP_OK;
    wrong += door_model_init(&door, door_memory, sizeof door_memory) != DOOR_OK;
    wrong += lamp_model_init(&lamps[1], lamp_memory[1], sizeof lamp_memory[1]) != LAMP_OK;
    for (int turn = 0; turn < 2 * LAMP_VECTOR_CLIPS && wrong == 0; turn++) {
        const int clips[2] = {turn % LAMP_VECTOR_CLIPS, (turn + 1) % LAMP_VECTOR_CLIPS};
        const int clip = turn % DOOR_VECTOR_CLIPS;
        for (int i = 0; i < 2; i++) {
            memcpy(lamp_model_input(&lamps[i]), lamp_vector_features[clips[i]], LAMP_INPUT_SIZE);
        }
        memcpy(door_model_input(&door), door_vector_features[clip], DOOR_INPUT_SIZE);
        wrong += lamp_model_invoke(&lamps[0], &of_lamps[0]) != LAMP_OK;
        wrong += door_model_invoke(&door, &of_door) != DOOR_OK;
        wrong += lamp_model_invoke(&lamps[1], &of_lamps[1]) != LAMP_OK;
        for (int i = 0; i < 2; i++) {
            wrong += memcmp(of_lamps[i], lamp_vector_posteriors[clips[i]], LAMP_N_LABELS) != 0;
        }
        wrong += memcmp(of_door, door_vector_posteriors[clip], DOOR_N_LABELS) != 0;
        puts("turn");
    }
    wrong += lamp_model_deinit(&lamps[0]) != LAMP_OK;
    memset(lamp_memory[0], 0x55, sizeof lamp_memory[0]);
    wrong += lamp_model_invoke(&lamps[0], &of_lamps[0]) != LAMP_ERR_STATE;
    memcpy(lamp_model_input(&lamps[1]), lamp_vector_features[0], LAMP_INPUT_SIZE);
    wrong += lamp_model_invoke(&lamps[1], &of_lamps[1]) != LAMP_OK;
    wrong += memcmp(of_lamps[1], lamp_vector_posteriors[0], LAMP_N_LABELS) != 0;
    printf("%d wrong\n", wrong);
    return wrong;
}
