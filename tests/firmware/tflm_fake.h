/* SPDX-License-Identifier: Apache-2.0 */
/* What tests tell the TensorFlow Lite Micro of tflm_fake.cc, and ask it. */
#ifndef TFLM_FAKE_H_
#define TFLM_FAKE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A model and its answers: those of golden features, and for any other input those of a stream in turn. A network with
 * state gives the answers of golden hops to a stream's first inferences, which it knows by its first state. */
typedef struct tflm_answers {
    const void *model;
    size_t inputs, outputs, clips, steps;
    const int8_t *features, *posteriors, *stream;
    size_t states, state_bytes;
} tflm_answers;

void tflm_know(const tflm_answers *answers);

extern size_t tflm_need;       /* bytes of the arena that every model takes */
extern int tflm_fails;         /* whether invocations and resets fail */
extern unsigned tflm_invoked;  /* how often something was invoked */
extern const void *tflm_arena; /* the last interpreter's */
extern size_t tflm_arena_bytes;

/* Of all that a model was given. */
uint32_t tflm_hash(const void *model);

#ifdef __cplusplus
}
#endif

#endif /* TFLM_FAKE_H_ */
