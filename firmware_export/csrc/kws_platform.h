/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief What differs from one core or compiler to another.
 */
#ifndef KWS_PLATFORM_H_
#define KWS_PLATFORM_H_

/**
 * 1: the front end works in integers, for cores without a floating-point unit. 0: in single precision.
 *
 * The build may choose. For an ESP32-S2 it must: that core does not say that it lacks the unit.
 */
#ifndef KWS_FIXED_POINT
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
#define KWS_FIXED_POINT 1
#else
#define KWS_FIXED_POINT 0
#endif
#endif

/** 1: CMSIS-DSP does the transform of the single-precision form; see kws_fft.h. */
#ifndef KWS_USE_CMSIS_DSP
#define KWS_USE_CMSIS_DSP 0
#endif

/** 0 leaves out the self-test and its vectors, for linkers that keep what nobody calls. */
#ifndef KWS_SELF_TEST
#define KWS_SELF_TEST 1
#endif

/** Of a static array: it begins on a boundary of 16 bytes, as an arena should. */
#if defined(__GNUC__)
#define KWS_ALIGNED __attribute__((aligned(16)))
#else
#define KWS_ALIGNED
#endif

#endif /* KWS_PLATFORM_H_ */
