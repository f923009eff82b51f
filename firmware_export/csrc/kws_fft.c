/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_fft.h"

#include "kws_shift.h"
#include "kws_tables.h"

#if KWS_USE_CMSIS_DSP && !KWS_FIXED_POINT

#include <string.h>

#include "arm_math.h"

/* arm_rfft_fast_init_512_f32 and so on. The function for any length would link the tables of all lengths. */
#define INIT_OF(length) arm_rfft_fast_init_##length##_f32
#define INIT(length) INIT_OF(length)

void kws_rfft(kws_real buffer[KWS_FFT_BUFFER]) {
    arm_rfft_fast_instance_f32 instance;
    (void)INIT(KWS_N_FFT)(&instance);
    arm_rfft_fast_f32(&instance, buffer, buffer + KWS_N_FFT, 0);
    (void)memcpy(buffer, buffer + KWS_N_FFT, KWS_N_FFT * sizeof *buffer);
}

#else

/* The even and odd samples are the real and imaginary parts of KWS_N_FFT / 2 complex values. These are transformed by
 * radix-4 steps (decimation in time). If their number is not a power of 4, a radix-2 step comes first. Symmetry then
 * separates the transforms of the even and odd samples. See Sorensen et al., "Real-valued fast Fourier transform
 * algorithms", IEEE Trans. ASSP 35 (1987). */

#define N_COMPLEX (KWS_N_FFT / 2)
#define RADIX2_FIRST (KWS_FFT_LOG2 % 2 == 0)

typedef struct kws_complex {
    kws_real re, im;
} kws_complex;

static inline kws_complex add(kws_complex a, kws_complex b) {
    kws_complex sum = {a.re + b.re, a.im + b.im};
    return sum;
}

static inline kws_complex subtract(kws_complex a, kws_complex b) {
    kws_complex difference = {a.re - b.re, a.im - b.im};
    return difference;
}

#if KWS_FIXED_POINT

/* Every step divides its input by its radix, so that no sum overflows. */

static inline kws_complex half(kws_complex a) {
    kws_complex result = {kws_floor_shift(a.re, 1), kws_floor_shift(a.im, 1)};
    return result;
}

#if RADIX2_FIRST
static inline kws_complex into_radix2(kws_complex a) { return half(a); }
#endif

static inline kws_complex into_radix4(kws_complex a) {
    kws_complex result = {kws_floor_shift(a.re, 2), kws_floor_shift(a.im, 2)};
    return result;
}

/* a times the Q31 twiddle w, divided by 2 to the power of `shift` - 31. */
static inline kws_complex product(kws_complex a, const kws_real *w, int shift) {
    kws_complex result = {(int32_t)kws_floor_shift64((int64_t)a.re * w[0] - (int64_t)a.im * w[1], shift),
                          (int32_t)kws_floor_shift64((int64_t)a.re * w[1] + (int64_t)a.im * w[0], shift)};
    return result;
}

static inline kws_complex turned(kws_complex a, const kws_real *w) { return product(a, w, 31); }
static inline kws_complex turned_into_radix4(kws_complex a, const kws_real *w) { return product(a, w, 33); }

#else

static inline kws_complex half(kws_complex a) {
    kws_complex result = {0.5f * a.re, 0.5f * a.im};
    return result;
}

#if RADIX2_FIRST
static inline kws_complex into_radix2(kws_complex a) { return a; }
#endif

static inline kws_complex into_radix4(kws_complex a) { return a; }

static inline kws_complex turned(kws_complex a, const kws_real *w) {
    kws_complex result = {a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]};
    return result;
}

static inline kws_complex turned_into_radix4(kws_complex a, const kws_real *w) { return turned(a, w); }

#endif

static inline kws_complex load(const kws_real *p) {
    kws_complex value = {p[0], p[1]};
    return value;
}

static inline void store(kws_real *p, kws_complex value) {
    p[0] = value.re;
    p[1] = value.im;
}

/* Four points, `step` reals apart. Bit reversal leaves the odd blocks swapped: b is the third, c the second. */
static inline void butterfly(kws_real *p, int step, kws_complex a, kws_complex b, kws_complex c, kws_complex d) {
    kws_complex even = add(a, c), odd = add(b, d), left = subtract(a, c), right = subtract(b, d);
    kws_complex down = {left.re + right.im, left.im - right.re}, up = {left.re - right.im, left.im + right.re};
    store(p, add(even, odd));
    store(p + step, down);
    store(p + 2 * step, subtract(even, odd));
    store(p + 3 * step, up);
}

static void complex_fft(kws_real *data) {
    for (int i = 0; i < KWS_FFT_SWAPS; i++) {
        kws_real *p = data + 2 * kws_fft_swaps[i][0], *q = data + 2 * kws_fft_swaps[i][1];
        kws_complex swapped = load(p);
        store(p, load(q));
        store(q, swapped);
    }
    int length = 1; /* of the blocks that are already transformed */
#if RADIX2_FIRST
    for (kws_real *p = data; p < data + KWS_N_FFT; p += 4) {
        const kws_complex a = into_radix2(load(p)), b = into_radix2(load(p + 2));
        store(p, add(a, b));
        store(p + 2, subtract(a, b));
    }
    length = 2;
#endif
    for (; length < N_COMPLEX; length *= 4) {
        const int step = 2 * length;
        for (kws_real *p = data; p < data + KWS_N_FFT; p += 4 * step) {
            butterfly(p, step, into_radix4(load(p)), into_radix4(load(p + 2 * step)), into_radix4(load(p + step)),
                      into_radix4(load(p + 3 * step)));
        }
        const int stride = 2 * (KWS_N_FFT / 4 / length); /* in the table, for one k */
        for (int k = 1; k < length; k++) {
            const kws_real *w1 = kws_fft_twiddles + k * stride, *w2 = w1 + k * stride, *w3 = w2 + k * stride;
            for (kws_real *p = data + 2 * k; p < data + KWS_N_FFT; p += 4 * step) {
                butterfly(p, step, into_radix4(load(p)), turned_into_radix4(load(p + 2 * step), w1),
                          turned_into_radix4(load(p + step), w2), turned_into_radix4(load(p + 3 * step), w3));
            }
        }
    }
}

void kws_rfft(kws_real buffer[KWS_FFT_BUFFER]) {
    complex_fft(buffer);
    const kws_complex first = load(buffer);
    buffer[0] = first.re + first.im;
    buffer[1] = first.re - first.im;
    for (int k = 1; k <= N_COMPLEX / 2; k++) {
        kws_real *p = buffer + 2 * k, *q = buffer + 2 * (N_COMPLEX - k);
        const kws_complex a = half(load(p)), b = half(load(q));
        const kws_complex even = {a.re + b.re, a.im - b.im}, difference = {a.im + b.im, b.re - a.re};
        const kws_complex odd = turned(difference, kws_fft_twiddles + 2 * k);
        const kws_complex low = add(even, odd), high = subtract(even, odd), mirrored = {high.re, -high.im};
        store(p, low);
        store(q, mirrored);
    }
}

#endif /* KWS_USE_CMSIS_DSP */
