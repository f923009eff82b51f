/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Affine quantisation as TFLite defines it: real = scale * (q - zero_point).
 */
#ifndef KWS_QUANT_H_
#define KWS_QUANT_H_

#include <math.h>
#include <stdint.h>

/**
 * Divides, rounds half to even, adds the zero point and saturates, in single precision, as kws_edge does.
 *
 * @param value Any value; NaN gives -128.
 * @param scale Above 0.
 * @param zero_point -128 to 127.
 * @return -128 to 127.
 */
static inline int8_t kws_quantize(float value, float scale, int32_t zero_point) {
    const float q = rintf(value / scale) + (float)zero_point;
    return (int8_t)(q >= -128.0f ? q > 127.0f ? 127.0f : q : -128.0f);
}

#endif /* KWS_QUANT_H_ */
