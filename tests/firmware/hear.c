/* SPDX-License-Identifier: Apache-2.0 */
/* One of several models in a program: the first turn is its self-test, each further one a block of its golden audio;
 * the last prints what the model was given. */
#include <stdbool.h>
#include <stdio.h>

#include "answers.h"
#include "kws_self_test.h"

#define BLOCK 1234
#define LAST 399

void kws_hear(int turn);

static KWS_ALIGNED uint8_t arena[KWS_ARENA_SIZE];
static kws_model model;
static kws_app app;

/* Lines begin with the prefix of this file's names, which an export changes. */
static void print(void *context, const char *line) {
    (void)context;
    printf("kws: %s\n", line);
}

static void heard(const kws_detection *found, void *context) {
    (void)context;
    printf("kws: heard %s (%d %%) at %lu\n", found->keyword, (int)(100.0f * found->score), (unsigned long)found->end);
}

void kws_hear(int turn) {
    static uint32_t at;
    const kws_port port = {.print = print};
    kws_status status = KWS_OK;
    if (turn == 0) {
        kws_answers();
        status = kws_model_init(&model, arena, sizeof arena);
        if (status == KWS_OK) {
            status = kws_app_init(&app, &model, heard, NULL);
        }
        if (status == KWS_OK) {
            (void)kws_self_test(&port, &app);
            status = kws_app_reset(&app);
        }
    } else {
        for (int i = 0; i < BLOCK && status == KWS_OK; i++, at++) {
            status = kws_app_process(&app, kws_vector_audio + at % KWS_VECTOR_SAMPLES, 1);
        }
    }
    if (status != KWS_OK || turn == LAST) {
        printf("kws: status %d, given %lx\n", status, (unsigned long)tflm_hash(kws_model_data));
    }
}
