/* What differs from one core to another. */
#ifndef KWS_PLATFORM_H_
#define KWS_PLATFORM_H_

/* The front end has two forms: single-precision float, and integers for cores without a floating-point unit. The build
 * may choose with -DKWS_FIXED_POINT=0 or 1; an ESP32-S2, whose core does not say that it lacks the unit, must. */
#ifndef KWS_FIXED_POINT
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
#define KWS_FIXED_POINT 1
#else
#define KWS_FIXED_POINT 0
#endif
#endif

/* -DKWS_USE_CMSIS_DSP=1 has the float form's transform done by CMSIS-DSP; see kws_fft.h. */
#ifndef KWS_USE_CMSIS_DSP
#define KWS_USE_CMSIS_DSP 0
#endif

/* -DKWS_SELF_TEST=0 leaves out the self-test and its vectors, for linkers that keep what nobody calls. */
#ifndef KWS_SELF_TEST
#define KWS_SELF_TEST 1
#endif

#endif /* KWS_PLATFORM_H_ */
