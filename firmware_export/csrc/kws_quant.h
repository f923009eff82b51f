/* Affine quantisation as TFLite defines it: real = scale * (q - zero_point). */
#ifndef KWS_QUANT_H_
#define KWS_QUANT_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Divides, rounds half to even, adds the zero point and saturates, in single precision, as kws_edge does. What is no number
 * gives -128. */
int8_t kws_quantize(float value, float scale, int32_t zero_point);

/* The real value of q. */
float kws_dequantize(int8_t q, float scale, int32_t zero_point);

#ifdef __cplusplus
}
#endif

#endif /* KWS_QUANT_H_ */
