/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Division by powers of two that rounds down, also for negative values.
 *
 * In C, the right shift of a negative value depends on the compiler. These functions give the same result with every
 * compiler, and compile to one arithmetic shift if the core has one.
 */
#ifndef KWS_SHIFT_H_
#define KWS_SHIFT_H_

#include <stdint.h>

/**
 * Divides a 32-bit value.
 *
 * @param value Any value.
 * @param bits 0 to 31.
 * @return The largest whole number that is not above value / 2^bits.
 */
static inline int32_t kws_floor_shift(int32_t value, int bits) {
    return value < 0 ? -1 - ((-1 - value) >> bits) : value >> bits;
}

/**
 * Divides a 64-bit value.
 *
 * @param value Any value.
 * @param bits 0 to 63.
 * @return The largest whole number that is not above value / 2^bits.
 */
static inline int64_t kws_floor_shift64(int64_t value, int bits) {
    return value < 0 ? -1 - ((-1 - value) >> bits) : value >> bits;
}

#endif /* KWS_SHIFT_H_ */
