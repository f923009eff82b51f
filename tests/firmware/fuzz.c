/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds the front end and the application every kind of PCM, in blocks of every size; run under sanitizers. Its model
 * computes nonsense from its whole input, so that every byte of it is read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kws_app.h"
#include "kws_vectors.h"

static int8_t input[KWS_INPUT_SIZE], output[KWS_N_LABELS];

kws_status kws_model_reset(kws_model *model) {
    (void)model;
    return KWS_OK;
}

int8_t *kws_model_input(kws_model *model) {
    (void)model;
    return input;
}

kws_status kws_model_invoke(kws_model *model, const int8_t **posteriors) {
    (void)model;
    uint32_t hash = 2166136261u;
    for (int i = 0; i < KWS_INPUT_SIZE; i++) {
        hash = (hash ^ (uint8_t)input[i]) * 16777619u;
    }
    for (int label = 0; label < KWS_N_LABELS; label++) {
        output[label] = (int8_t)(label == (int)(hash % KWS_N_LABELS) ? 127 : -128 + (int)(hash >> 29));
    }
    *posteriors = output;
    return KWS_OK;
}

static uint32_t state = 1;

static uint32_t next(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static int16_t sample(int kind, int i) {
    switch (kind) {
        case 0: return 0;
        case 1: return 32767;
        case 2: return -32768;
        case 3: return (int16_t)(i % 2 ? 32767 : -32768); /* half the sample rate */
        case 4: return (int16_t)(i / 97 % 2 ? 32767 : -32768);
        case 5: return (int16_t)((int32_t)(next() & 0xffff) - 32768);
        case 6: return (int16_t)((int32_t)(next() % 3) - 1);
        case 7: return (int16_t)(i % 1000 == 0 ? -32768 : 0);
        case 8: return 1;
        default: return kws_vector_audio[i % KWS_VECTOR_SAMPLES];
    }
}

static void count(const kws_detection *detection, void *context) {
    (void)detection;
    ++*(int *)context;
}

int main(void) {
    static kws_model model;
    static kws_app app;
    int found = 0;
    if (kws_app_init(&app, &model, count, &found) != KWS_OK) {
        return 1;
    }
    for (int round = 0; round < 60; round++) {
        const int kind = round % 10;
        if (next() % 4 == 0 && kws_app_reset(&app) != KWS_OK) {
            return 1;
        }
        int left = 20000;
        while (left > 0) {
            int n = (int)(next() % (round % 3 == 0 ? 7u : 2000u));
            n = n < left ? n : left;
            /* Exactly as long as it says: a sample read beyond its end is an error. */
            int16_t *block = malloc((size_t)n * sizeof *block + (n == 0));
            for (int i = 0; i < n; i++) {
                block[i] = sample(kind, left - i);
            }
            if (kws_app_process(&app, block, (size_t)n) != KWS_OK) {
                return 1;
            }
            free(block);
            left -= n;
        }
    }
    printf("%d detections\n", found);
    return 0;
}
