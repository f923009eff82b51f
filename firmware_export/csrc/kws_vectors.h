/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Golden vectors: results of kws_edge at export, for the self-test. They are generated into kws_vectors.c.
 */
#ifndef KWS_VECTORS_H_
#define KWS_VECTORS_H_

#include <stdint.h>

#include "kws_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Audio: mono, KWS_SAMPLE_RATE Hz. */
extern const int16_t kws_vector_audio[KWS_VECTOR_SAMPLES];

/** Number of its samples that were heard at each golden inference, ascending. */
extern const uint32_t kws_vector_ends[KWS_VECTOR_CLIPS];

/** The model's input at these inferences. */
extern const int8_t kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE];

/** The model's output at these inferences. */
extern const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][KWS_N_LABELS];

/** A detection in kws_vector_stream. */
typedef struct kws_vector_found {
    uint16_t step;  /**< The inference that decided, below KWS_VECTOR_STEPS. */
    uint8_t label;  /**< As in kws_detection. */
    float score;    /**< As in kws_detection. */
    uint64_t start; /**< As in kws_detection. */
    uint64_t end;   /**< As in kws_detection. */
} kws_vector_found;

/** Posteriors of a longer stream. */
extern const int8_t kws_vector_stream[KWS_VECTOR_STEPS][KWS_N_LABELS];

/** The detections in kws_vector_stream. The last item is unused. */
extern const kws_vector_found kws_vector_detections[KWS_VECTOR_DETECTIONS + 1];

#ifdef __cplusplus
}
#endif

#endif /* KWS_VECTORS_H_ */
