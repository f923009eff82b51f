/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Front end: int16 samples in, the model's INT8 input out.
 *
 * Blocks may have any length. Each frame is computed once, as soon as its last sample is there. It is kept in a window
 * of KWS_N_FRAMES frames. Before the stream, and after a reset, this window holds silence.
 */
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

/** A stream's front end. You provide its memory, and kws_frontend_reset sets it up. All fields are private. */
typedef struct kws_frontend_state {
    kws_real work[KWS_FFT_BUFFER];              /**< Buffer of the frame in work. */
    kws_level window[KWS_N_FRAMES][KWS_N_MELS]; /**< A ring of frames. */
    int16_t samples[KWS_FRAME_LENGTH];          /**< The start of the next frame. */
    uint16_t n_samples;                         /**< Number of valid `samples`, below KWS_FRAME_LENGTH. */
    uint16_t skip;                              /**< Samples to drop first, if hops exceed frames. */
    uint16_t oldest;                            /**< Oldest row of `window`, below KWS_N_FRAMES. */
} kws_frontend_state;

/**
 * Forgets everything. The next sample is the first one of a new stream.
 *
 * @param state The front end to set up.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_frontend_reset(kws_frontend_state *state);

/**
 * Takes samples until a frame is complete or there are no more samples. Call it again with the rest.
 *
 * @param state The front end of the stream.
 * @param samples Mono, KWS_SAMPLE_RATE Hz, full scale -32768 to 32767.
 * @param n_samples Number of samples; at most SIZE_MAX / 2, so that a negative number is refused.
 * @param taken Receives the number of samples taken, 1 to `n_samples`; 0 if there are none, or on an error.
 * @param frame Receives whether a frame is complete.
 * @return KWS_OK, or KWS_ERR_ARGUMENT.
 */
kws_status kws_frontend_process(kws_frontend_state *state, const int16_t *samples, size_t n_samples, size_t *taken,
                                bool *frame);

/**
 * Writes the window as the model's input, oldest frame first.
 *
 * @param state The front end of the stream.
 * @param input Receives KWS_INPUT_FRAMES rows of KWS_N_MELS values.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_frontend_features(const kws_frontend_state *state, int8_t input[KWS_INPUT_SIZE]);

#ifdef __cplusplus
}
#endif

#endif /* KWS_FRONTEND_H_ */
