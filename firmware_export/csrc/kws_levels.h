/* Levels of one frame: window, transform, mel bands, logarithm. */
#ifndef KWS_LEVELS_H_
#define KWS_LEVELS_H_

#include <stdint.h>

#include "kws_config.h"
#include "kws_fft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is kept of a level until the model's input is filled: its INT8 value, or, where frames are resized first, the
 * level itself (float), or its quantised value with KWS_LEVEL_FRACTION_BITS binary places (fixed point). */
#if !KWS_RESIZE
typedef int8_t kws_level;
#elif KWS_FIXED_POINT
typedef int16_t kws_level;
#else
typedef float kws_level;
#endif

/* Computes the KWS_N_MELS levels of KWS_FRAME_LENGTH samples; `work` is overwritten. */
void kws_levels(const int16_t samples[KWS_FRAME_LENGTH], kws_real work[KWS_FFT_BUFFER], kws_level levels[KWS_N_MELS]);

#if KWS_RESIZE
/* The INT8 input that lies between two levels, at `row`'s fraction of the way. */
int8_t kws_level_between(kws_level lower, kws_level upper, int row);
#endif

#ifdef __cplusplus
}
#endif

#endif /* KWS_LEVELS_H_ */
