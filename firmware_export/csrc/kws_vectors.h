/* Golden vectors: what kws_edge computed at export, for the self-test; generated into kws_vectors.c. */
#ifndef KWS_VECTORS_H_
#define KWS_VECTORS_H_

#include <stdint.h>

#include "kws_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Audio, and at some points of it the model's input and output. */
extern const int16_t kws_vector_audio[KWS_VECTOR_SAMPLES];
extern const uint32_t kws_vector_ends[KWS_VECTOR_CLIPS]; /* samples heard by then */
extern const int8_t kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE];
extern const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][KWS_N_LABELS];

/* Posteriors of a longer stream, and what the detector finds in them. */
typedef struct kws_vector_found {
    uint16_t step;
    uint8_t label;
    float score;
    uint64_t start, end;
} kws_vector_found;

extern const int8_t kws_vector_stream[KWS_VECTOR_STEPS][KWS_N_LABELS];
extern const kws_vector_found kws_vector_detections[KWS_VECTOR_DETECTIONS + 1]; /* the last is a filler */

#ifdef __cplusplus
}
#endif

#endif /* KWS_VECTORS_H_ */
