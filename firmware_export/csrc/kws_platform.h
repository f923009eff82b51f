/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Differences between cores and compilers.
 */
#ifndef KWS_PLATFORM_H_
#define KWS_PLATFORM_H_

/**
 * 1: the front end works in integers, for cores without a floating-point unit. 0: it works in single precision.
 *
 * The build may define this. For an ESP32-S2 it must, because the compiler does not say that this core lacks the unit.
 */
#ifndef KWS_FIXED_POINT
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
#define KWS_FIXED_POINT 1
#else
#define KWS_FIXED_POINT 0
#endif
#endif

/** 1: CMSIS-DSP computes the transform in single precision; see kws_fft.h. */
#ifndef KWS_USE_CMSIS_DSP
#define KWS_USE_CMSIS_DSP 0
#endif

/** 0: the self-test and its vectors are left out, for linkers that keep unused functions. */
#ifndef KWS_SELF_TEST
#define KWS_SELF_TEST 1
#endif

/** Attribute of a static array that aligns it to 16 bytes, as an arena should be. */
#if defined(__GNUC__)
#define KWS_ALIGNED __attribute__((aligned(16)))
#else
#define KWS_ALIGNED
#endif

#endif /* KWS_PLATFORM_H_ */
