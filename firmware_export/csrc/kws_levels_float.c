/* SPDX-License-Identifier: Apache-2.0 */
/* Levels in single precision: the arithmetic of kws_edge.Frontend, except for its double-precision transform. */
#include "kws_levels.h"
#include "kws_platform.h"

#if !KWS_FIXED_POINT

#include <math.h>
#include <string.h>

#include "kws_quant.h"
#include "kws_tables.h"

/* Natural logarithm of a positive, normal number, within 1.2e-7 relative or 5.1e-8 absolute. It uses x = m 2^e with m
 * from sqrt(1/2) to sqrt(2), and ln m = 2 artanh((m - 1) / (m + 1)). The library's function works in double precision,
 * which the floating-point unit of a Cortex-M4F does not have. */
static inline float natural_log(float x) {
    uint32_t bits;
    (void)memcpy(&bits, &x, sizeof bits);
    /* 0x3f3504f3 is sqrt(1/2). 128 is added before the shift and subtracted after it, to avoid negative values. */
    const uint32_t above = bits + (0x40000000u - 0x3f3504f3u);
    const int32_t exponent = (int32_t)(above >> 23) - 128;
    bits = (above & 0x7fffffu) + 0x3f3504f3u;
    float m;
    (void)memcpy(&m, &bits, sizeof m);
    const float t = (m - 1.0f) / (m + 1.0f), u = t * t;
    const float series = u * (0.33333333f + u * (0.2f + u * (0.14285714f + u * 0.11111111f)));
    return (float)exponent * 0.69314718f + 2.0f * (t + t * series);
}

/* Writes the powers (or magnitudes) of the bins KWS_FIRST_BIN to KWS_LAST_BIN into buffer[bin]. */
static void spectrum(kws_real *buffer) {
    const float middle = buffer[1] * buffer[1];
    buffer[0] *= buffer[0];
    for (int k = 1; k <= KWS_LAST_BIN && k < KWS_N_FFT / 2; k++) {
        const float re = buffer[2 * k], im = buffer[2 * k + 1];
        buffer[k] = re * re + im * im;
    }
    buffer[KWS_N_FFT / 2] = middle;
#if KWS_MAGNITUDE
    for (int k = KWS_FIRST_BIN; k <= KWS_LAST_BIN; k++) {
        buffer[k] = sqrtf(buffer[k]);
    }
#endif
}

void kws_levels(const int16_t samples[KWS_FRAME_LENGTH], kws_real work[KWS_FFT_BUFFER], kws_level levels[KWS_N_MELS]) {
    for (int i = 0; i < KWS_FRAME_LENGTH; i++) {
        work[i] = (float)samples[i] * kws_window[i];
    }
    (void)memset(work + KWS_FRAME_LENGTH, 0, (KWS_N_FFT - KWS_FRAME_LENGTH) * sizeof *work);
    kws_rfft(work);
    spectrum(work);
    const float *weight = kws_mel_weights;
    for (int m = 0; m < KWS_N_MELS; m++) {
        float band = 0.0f;
        const kws_real *bin = work + kws_mel_first[m], *const end = bin + kws_mel_count[m];
        while (bin < end) {
            band += *bin++ * *weight++;
        }
        float level = natural_log(band + KWS_LOG_OFFSET) * KWS_LOG_GAIN + KWS_LEVEL_OFFSET;
#ifdef KWS_LEVEL_MIN
        level = level < KWS_LEVEL_MIN ? KWS_LEVEL_MIN : level;
#endif
#ifdef KWS_LEVEL_MAX
        level = level > KWS_LEVEL_MAX ? KWS_LEVEL_MAX : level;
#endif
#if KWS_RESIZE
        levels[m] = level;
#else
        levels[m] = kws_quantize(level, KWS_INPUT_SCALE, KWS_INPUT_ZERO_POINT);
#endif
    }
}

#if KWS_RESIZE
int8_t kws_level_between(kws_level lower, kws_level upper, int row) {
    return kws_quantize(lower + (upper - lower) * kws_resize_fraction[row], KWS_INPUT_SCALE, KWS_INPUT_ZERO_POINT);
}
#endif

#endif /* !KWS_FIXED_POINT */
