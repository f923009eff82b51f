/* SPDX-License-Identifier: Apache-2.0 */
/* Levels in integers. The frame is scaled to full scale for a 32-bit transform. Mel sums have 96 bits, and a table
 * gives the logarithm. */
#include "kws_levels.h"
#include "kws_platform.h"

#if KWS_FIXED_POINT

#include <stdbool.h>
#include <string.h>

#include "kws_shift.h"
#include "kws_tables.h"

/* A non-negative number, mantissa 2^exponent. The mantissa is 0 or has its bit 31 set. */
typedef struct number {
    uint32_t mantissa;
    int32_t exponent;
} number;

static inline int leading_zeros(uint32_t x) {
#if defined(__GNUC__)
    return x != 0 ? __builtin_clz(x) : 32;
#else
    int n = 32;
    while (x != 0) {
        x >>= 1;
        n--;
    }
    return n;
#endif
}

/* high 2^32 + low as a number. The mantissa is truncated, not rounded. */
static inline number normalised(uint64_t high, uint64_t low) {
    high += low >> 32;
    low &= 0xffffffffu;
    number result = {0, 0};
    if (high >> 32 != 0) { /* 65 to 96 bits */
        const int shift = 32 - leading_zeros((uint32_t)(high >> 32));
        result.mantissa = (uint32_t)(high >> shift);
        result.exponent = 32 + shift;
    } else {
        const uint64_t value = high << 32 | low;
        const int shift = high != 0 ? 32 - leading_zeros((uint32_t)high) : -leading_zeros((uint32_t)low);
        if (value != 0) {
            result.mantissa = (uint32_t)(shift >= 0 ? value >> shift : value << -shift);
            result.exponent = shift;
        }
    }
    return result;
}

/* log2(a + b) in Q16. At least one of a and b must not be 0. */
static inline int32_t log2_of_sum(number a, number b) {
    if (a.mantissa == 0 || (b.mantissa != 0 && b.exponent > a.exponent)) {
        const number larger = b;
        b = a;
        a = larger;
    }
    const int32_t distance = a.exponent - b.exponent;
    const uint64_t sum = a.mantissa + (b.mantissa != 0 && distance < 32 ? (uint64_t)b.mantissa >> distance : 0);
    const int carry = (int)(sum >> 32);
    const uint32_t mantissa = (uint32_t)(sum >> carry);
    const uint32_t index = mantissa >> 25 & 63, fraction = mantissa >> 9 & 0xffff;
    const uint32_t low = kws_log2[index], slope = kws_log2[index + 1] - low;
    return (a.exponent + carry + 31) * 65536 + (int32_t)(low + (slope * fraction >> 16));
}

#if KWS_MAGNITUDE
/* Square root, rounded down, digit by digit. */
static uint32_t square_root(uint64_t x) {
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 62; bit != 0; bit >>= 2) {
        if (x >= root + bit) {
            x -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}
#endif

/* Whether the bands use the first and the last bin, which have no imaginary part. */
#define HAS_BIN_0 (KWS_FIRST_BIN == 0)
#define HAS_LAST_BIN (KWS_LAST_BIN == KWS_N_FFT / 2)

/* Power of bin k of a packed spectrum, or its magnitude in Q8. Both are below 2^62. */
static inline uint64_t strength(const kws_real *spectrum, int k) {
    const bool is_last = HAS_LAST_BIN && k == KWS_N_FFT / 2;
    const int64_t re = is_last ? spectrum[1] : spectrum[2 * k];
    const int64_t im = is_last || (HAS_BIN_0 && k == 0) ? 0 : spectrum[2 * k + 1];
    const uint64_t power = (uint64_t)(re * re) + (uint64_t)(im * im);
#if KWS_MAGNITUDE
    return power >> 46 != 0 ? (uint64_t)square_root(power) << 8 : square_root(power << 16);
#else
    return power;
#endif
}

/* Applies the window and zero padding. The frame is shifted left so that it fills 16 bits. Returns the shift. */
static int windowed(const int16_t *samples, kws_real *work) {
    uint32_t used = 0;
    for (int i = 0; i < KWS_FRAME_LENGTH; i++) {
        const int32_t sample = samples[i];
        used |= (uint32_t)(sample < 0 ? -1 - sample : sample);
    }
    const int shift = used != 0 ? leading_zeros(used) - 17 : 15;
    for (int i = 0; i < KWS_FRAME_LENGTH; i++) {
        work[i] = (int32_t)kws_floor_shift64((int64_t)(samples[i] * (1 << shift)) * kws_window[i], 16);
    }
    (void)memset(work + KWS_FRAME_LENGTH, 0, (KWS_N_FFT - KWS_FRAME_LENGTH) * sizeof *work);
    return shift;
}

static inline int32_t clipped(int32_t value, int32_t lowest, int32_t highest) {
    return value < lowest ? lowest : value > highest ? highest : value;
}

void kws_levels(const int16_t samples[KWS_FRAME_LENGTH], kws_real work[KWS_FFT_BUFFER], kws_level levels[KWS_N_MELS]) {
    const int shift = windowed(samples, work);
    const int32_t gained = KWS_MAGNITUDE ? shift : 2 * shift; /* binary places that the shift adds to the bands */
    const number offset = {KWS_FIXED_OFFSET_MANTISSA, KWS_FIXED_OFFSET_EXPONENT + gained};
    kws_rfft(work);
    const uint32_t *weight = kws_mel_weights;
    for (int m = 0; m < KWS_N_MELS; m++) {
        uint64_t high = 0, low = 0;
        const int end = kws_mel_first[m] + kws_mel_count[m];
        for (int k = kws_mel_first[m]; k < end; k++, weight++) {
            const uint64_t value = strength(work, k);
            high += (value >> 32) * *weight;
            low += (value & 0xffffffffu) * *weight;
        }
        const int32_t log2 = log2_of_sum(normalised(high, low), offset) - gained * 65536;
        /* Quantised, Q16. */
        const int32_t level = (int32_t)kws_floor_shift64((int64_t)KWS_FIXED_GAIN * log2, 16) + KWS_FIXED_LEVEL;
        const int drop = 16 - KWS_LEVEL_FRACTION_BITS;
        const int32_t rounded = kws_floor_shift(level + (1 << (drop - 1)), drop);
        levels[m] = (kws_level)clipped(rounded, KWS_FIXED_LOWEST, KWS_FIXED_HIGHEST);
    }
}

#if KWS_RESIZE
int8_t kws_level_between(kws_level lower, kws_level upper, int row) {
    const int32_t level = lower * 32768 + (upper - lower) * (int32_t)kws_resize_fraction[row];
    const int drop = KWS_LEVEL_FRACTION_BITS + 15;
    return (int8_t)clipped(kws_floor_shift(level + (1 << (drop - 1)), drop), -128, 127);
}
#endif

#endif /* KWS_FIXED_POINT */
