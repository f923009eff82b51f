/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Constant tables, generated from the model's own front-end settings into kws_tables.c.
 */
#ifndef KWS_TABLES_H_
#define KWS_TABLES_H_

#include <stdint.h>

#include "kws_config.h"
#include "kws_fft.h"

#ifdef __cplusplus
extern "C" {
#endif

/** exp(-2 pi i k / KWS_N_FFT) for k < 3/4 KWS_N_FFT, real and imaginary parts in turn; Q31 in fixed point. */
extern const kws_real kws_fft_twiddles[2 * (3 * KWS_N_FFT / 4)];

/** Pairs of complex values that bit reversal exchanges: their indices, below KWS_N_FFT / 2. */
extern const uint16_t kws_fft_swaps[KWS_FFT_SWAPS][2];

/** Analysis window, 0 to 1; Q30 in fixed point. The float form includes the factor on the samples. */
extern const kws_real kws_window[KWS_FRAME_LENGTH];

/** Weights of the bins of all mel bands in turn, 0 to 1; Q24 in fixed point. */
#if KWS_FIXED_POINT
extern const uint32_t kws_mel_weights[KWS_MEL_WEIGHTS];
#else
extern const float kws_mel_weights[KWS_MEL_WEIGHTS];
#endif

/** First bin of each mel band, 0 to KWS_N_FFT / 2. */
extern const uint16_t kws_mel_first[KWS_N_MELS];

/** Number of bins of each mel band, 0 to 128. */
extern const uint16_t kws_mel_count[KWS_N_MELS];

#if KWS_RESIZE
/** For each row of the input, the earlier of the two frames around it, below KWS_N_FRAMES. */
extern const uint16_t kws_resize_lower[KWS_INPUT_FRAMES];

/** For each row of the input, the later of the two frames around it, below KWS_N_FRAMES. */
extern const uint16_t kws_resize_upper[KWS_INPUT_FRAMES];

/** For each row of the input, its position between these frames, 0 to 1; Q15 in fixed point. */
#if KWS_FIXED_POINT
extern const uint16_t kws_resize_fraction[KWS_INPUT_FRAMES];
#else
extern const float kws_resize_fraction[KWS_INPUT_FRAMES];
#endif
#endif

#if KWS_FIXED_POINT
/** log2(1 + i / 64) in Q16. */
extern const uint32_t kws_log2[65];
#endif

#ifdef __cplusplus
}
#endif

#endif /* KWS_TABLES_H_ */
