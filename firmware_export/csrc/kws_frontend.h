/* Front end: int16 samples in, the model's INT8 input out.
 *
 * Blocks may have any length. Each frame is computed once, as soon as its last sample is there, and kept in a window of
 * KWS_N_FRAMES; before the stream, and after a reset, that window holds silence. */
#ifndef KWS_FRONTEND_H_
#define KWS_FRONTEND_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_fft.h"
#include "kws_levels.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Owned by the caller; set up by kws_frontend_reset. */
typedef struct kws_frontend_state {
    kws_real work[KWS_FFT_BUFFER];
    kws_level window[KWS_N_FRAMES][KWS_N_MELS]; /* a ring of frames */
    int16_t samples[KWS_FRAME_LENGTH];          /* the start of the next frame */
    uint16_t n_samples;                         /* how many of them are there */
    uint16_t skip;                              /* samples to drop before the next frame, where hops exceed frames */
    uint16_t oldest;                            /* row of the window */
} kws_frontend_state;

/* Forgets everything: the next sample is the first of a new stream. Returns KWS_OK, or KWS_ERR_ARGUMENT for NULL. */
int kws_frontend_reset(kws_frontend_state *state);

/* Takes samples (mono, KWS_SAMPLE_RATE Hz) until a frame is complete or there are no more. Returns how many were taken,
 * and in `frame` whether a frame was completed; call again with the rest. None of some are taken only where an argument is
 * NULL, or `n_samples` negative. */
size_t kws_frontend_process(kws_frontend_state *state, const int16_t *samples, size_t n_samples, bool *frame);

/* Writes the window, oldest frame first, as the model takes it: KWS_INPUT_FRAMES rows of KWS_N_MELS. Returns KWS_OK, or
 * KWS_ERR_ARGUMENT for NULL. */
int kws_frontend_features(const kws_frontend_state *state, int8_t input[KWS_INPUT_SIZE]);

#ifdef __cplusplus
}
#endif

#endif /* KWS_FRONTEND_H_ */
