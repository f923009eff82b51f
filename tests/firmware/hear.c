/* One of several models in a program: the first turn is its self-test, each further one a block of its golden audio; the
 * last prints what the model was given. */
#include <stdbool.h>
#include <stdio.h>

#include "answers.h"
#include "kws_app.h"
#include "kws_self_test.h"

#define BLOCK 1234
#define LAST 399

void kws_hear(int turn);

static kws_app app;

/* Lines begin with the prefix of this file's names, which an export changes. */
static void print(const char *line) { printf("kws: %s\n", line); }

static void heard(const kws_detection *found, void *user) {
    (void)user;
    printf("kws: heard %s (%d %%) at %lu\n", found->keyword, (int)(100.0f * found->score), (unsigned long)found->end);
}

void kws_hear(int turn) {
    static uint32_t at;
    const kws_self_test_port port = {print, NULL};
    int status = KWS_OK;
    if (turn == 0) {
        kws_answers();
        status = kws_app_init(&app, heard, NULL);
        if (status == KWS_OK) {
            (void)kws_self_test(&port, &app.frontend);
            status = kws_app_init(&app, heard, NULL);
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
