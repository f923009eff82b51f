/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Affine quantisation as TFLite defines it: real = scale * (q - zero_point).
 */
#ifndef KWS_QUANT_H_
#define KWS_QUANT_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Divides, rounds half to even, adds the zero point and saturates, in single precision, as kws_edge does.
 *
 * @param value Any; what is no number gives -128.
 * @param scale Above 0.
 * @param zero_point -128 to 127.
 * @return -128 to 127.
 */
int8_t kws_quantize(float value, float scale, int32_t zero_point);

/**
 * The real value of a quantised one.
 *
 * @param q -128 to 127.
 * @param scale Above 0.
 * @param zero_point -128 to 127.
 * @return scale * (q - zero_point).
 */
float kws_dequantize(int8_t q, float scale, int32_t zero_point);

#ifdef __cplusplus
}
#endif

#endif /* KWS_QUANT_H_ */
