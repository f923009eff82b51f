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

#if KWS_STATES
/** Number of its samples that were heard at each inference, from the first one of a stream. */
#else
/** Number of its samples that were heard at each golden inference, ascending. */
#endif /* KWS_STATES */
extern const uint32_t kws_vector_ends[KWS_VECTOR_CLIPS];

/** The model's input at these inferences. */
extern const int8_t kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE];

#if KWS_STATES
/** The model's output at these inferences: KWS_ANSWERS rows of scores. */
#else
/** The model's output at these inferences. */
#endif /* KWS_STATES */
#if KWS_STATES
extern const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][KWS_ANSWERS * KWS_N_LABELS];
#else
extern const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][KWS_N_LABELS];
#endif /* KWS_STATES */

#if KWS_TAUGHT
/** The model's second output at these inferences. */
extern const int8_t kws_vector_embeddings[KWS_VECTOR_CLIPS][KWS_EMBEDDING_SIZE];

/** Score of the first exported word at these inferences. */
extern const float kws_vector_scores[KWS_VECTOR_CLIPS];
#endif

/** A detection in kws_vector_stream. */
typedef struct kws_vector_found {
#if KWS_STATES
    uint16_t step;  /**< The answer that decided, below KWS_VECTOR_STEPS. */
#else
    uint16_t step;  /**< The inference that decided, below KWS_VECTOR_STEPS. */
#endif /* KWS_STATES */
    uint8_t label;  /**< As in kws_detection. */
    float score;    /**< As in kws_detection. */
    uint64_t start; /**< As in kws_detection. */
    uint64_t end;   /**< As in kws_detection. */
} kws_vector_found;

#if KWS_STATES
/** Scores of a longer stream, KWS_ANSWERS rows for each inference. */
#else
/** Posteriors of a longer stream. */
#endif /* KWS_STATES */
extern const int8_t kws_vector_stream[KWS_VECTOR_STEPS][KWS_N_LABELS];

/** The detections in kws_vector_stream. The last item is unused. */
extern const kws_vector_found kws_vector_detections[KWS_VECTOR_DETECTIONS + 1];

#ifdef __cplusplus
}
#endif

#endif /* KWS_VECTORS_H_ */
