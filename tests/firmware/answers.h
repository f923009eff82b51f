/* SPDX-License-Identifier: Apache-2.0 */
/* The golden vectors of an export as the answers of its model. */
#include "kws_config.h"
#include "kws_vectors.h"
#include "tflm_fake.h"

#ifndef KWS_STATES /* a model that hears clips */
#define KWS_STATES 0
#define KWS_STATE_BYTES 0
#define KWS_ANSWERS 1
#endif

extern const uint8_t kws_model_data[];

static void kws_answers(void) {
    const tflm_answers answers = {
        kws_model_data,
        KWS_INPUT_SIZE,
        KWS_ANSWERS * KWS_N_LABELS,
        KWS_VECTOR_CLIPS,
        KWS_VECTOR_STEPS / KWS_ANSWERS,
        kws_vector_features[0],
        kws_vector_posteriors[0],
        kws_vector_stream[0],
        KWS_STATES,
        KWS_STATE_BYTES,
    };
    tflm_know(&answers);
}
