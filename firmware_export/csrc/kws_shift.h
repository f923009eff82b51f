/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Division by powers of two that rounds down, also where the value is negative.
 *
 * C leaves to the compiler what a right shift of a negative value gives. These are the same for all, and compile to one
 * arithmetic shift where there is one.
 */
#ifndef KWS_SHIFT_H_
#define KWS_SHIFT_H_

#include <stdint.h>

/**
 * Divides 32 bits.
 *
 * @param value Any.
 * @param bits 0 to 31.
 * @return The largest whole number that is not above value / 2^bits.
 */
static inline int32_t kws_floor_shift(int32_t value, int bits) {
    return value < 0 ? -1 - ((-1 - value) >> bits) : value >> bits;
}

/**
 * Divides 64 bits.
 *
 * @param value Any.
 * @param bits 0 to 63.
 * @return The largest whole number that is not above value / 2^bits.
 */
static inline int64_t kws_floor_shift64(int64_t value, int bits) {
    return value < 0 ? -1 - ((-1 - value) >> bits) : value >> bits;
}

#endif /* KWS_SHIFT_H_ */
