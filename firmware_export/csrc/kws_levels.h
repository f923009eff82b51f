/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Levels of one frame: window, transform, mel bands, logarithm.
 */
#ifndef KWS_LEVELS_H_
#define KWS_LEVELS_H_

#include <stdint.h>

#include "kws_config.h"
#include "kws_fft.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Type of a level in the window: its INT8 value. If frames are resized, it is the level itself (float), or its
 * quantised value with KWS_LEVEL_FRACTION_BITS binary places (fixed point).
 */
#if !KWS_RESIZE
typedef int8_t kws_level;
#elif KWS_FIXED_POINT
typedef int16_t kws_level;
#else
typedef float kws_level;
#endif

/**
 * Computes the levels of one frame.
 *
 * @param samples KWS_FRAME_LENGTH samples, full scale -32768 to 32767.
 * @param work Buffer of KWS_FFT_BUFFER values, which are overwritten.
 * @param levels Receives KWS_N_MELS levels.
 */
void kws_levels(const int16_t samples[KWS_FRAME_LENGTH], kws_real work[KWS_FFT_BUFFER], kws_level levels[KWS_N_MELS]);

#if KWS_RESIZE
/**
 * Interpolates a level between two frames.
 *
 * @param lower Level of the earlier frame.
 * @param upper Level of the later frame.
 * @param row Row of the model's input, 0 to KWS_INPUT_FRAMES - 1, which determines the fraction.
 * @return The INT8 value of the input.
 */
int8_t kws_level_between(kws_level lower, kws_level upper, int row);
#endif

#ifdef __cplusplus
}
#endif

#endif /* KWS_LEVELS_H_ */
