/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Fourier transform of one frame. You can replace it by another library's.
 */
#ifndef KWS_FFT_H_
#define KWS_FFT_H_

#include <stdint.h>

#include "kws_config.h"
#include "kws_platform.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Type of a number of the front end. */
#if KWS_FIXED_POINT
typedef int32_t kws_real;
#else
typedef float kws_real;
#endif

/** Values that kws_rfft needs: the frame, and a second buffer for CMSIS-DSP, which does not work in place. */
#if KWS_USE_CMSIS_DSP && !KWS_FIXED_POINT
#define KWS_FFT_BUFFER (2 * KWS_N_FFT)
#else
#define KWS_FFT_BUFFER KWS_N_FFT
#endif

/**
 * Transforms KWS_N_FFT real values in place.
 *
 * The result is packed as CMSIS-DSP packs it: buffer[0] is bin 0, buffer[1] is bin KWS_N_FFT / 2 (both real), and
 * buffer[2 k], buffer[2 k + 1] are the real and imaginary parts of bin k.
 *
 * @param buffer The values. In fixed point they are from -2^29 to 2^29, and the result is the transform divided by
 *     KWS_N_FFT / 2, so that it cannot overflow.
 */
void kws_rfft(kws_real buffer[KWS_FFT_BUFFER]);

#ifdef __cplusplus
}
#endif

#endif /* KWS_FFT_H_ */
