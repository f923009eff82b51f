/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_quant.h"

#include <math.h>

int8_t kws_quantize(float value, float scale, int32_t zero_point) {
    const float q = rintf(value / scale) + (float)zero_point;
    return (int8_t)(q >= -128.0f ? q > 127.0f ? 127.0f : q : -128.0f);
}

float kws_dequantize(int8_t q, float scale, int32_t zero_point) { return scale * (float)(q - zero_point); }
