/* SPDX-License-Identifier: Apache-2.0 */
/* The self-test on a bare Cortex-M, which prints through semihosting. The exit status is 0 if the test passed. With the
 * model (make TFLM=...) the application then hears the golden audio, too. */
#include <stdint.h>
#include <stdio.h>

#include "kws_self_test.h"
#include "kws_vectors.h"

/* SysTick counts down from 2^24 - 1 at the core's clock. In QEMU with -icount, time advances by a fixed step for each
 * instruction, and the timer has another clock. A loop with a known number of instructions gives the ratio. */
#define SYST_CSR (*(volatile uint32_t *)0xe000e010u)
#define SYST_RVR (*(volatile uint32_t *)0xe000e014u)
#define SYST_CVR (*(volatile uint32_t *)0xe000e018u)
#define PERIOD 0x1000000u

void systick_handler(void);

static volatile uint32_t wraps;
static uint32_t ticks_per_million = 1000000;

void systick_handler(void) { wraps++; }

static uint64_t ticks(void) {
    uint32_t before, value;
    do {
        before = wraps;
        value = SYST_CVR;
    } while (before != wraps);
    return (uint64_t)before * PERIOD + (PERIOD - 1u - value);
}

static void calibrate(void) {
    SYST_RVR = PERIOD - 1u;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (SYST_CVR == 0) { /* it is loaded at the next tick */
    }
    const uint64_t start = ticks();
    uint32_t n = 500000;
    __asm volatile(".syntax unified\n1: subs %0, %0, #1\n bne 1b" : "+r"(n)::"cc"); /* a million instructions */
    ticks_per_million = (uint32_t)(ticks() - start);
}

static uint64_t cycles(void) { return ticks() * 1000000u / ticks_per_million; }

static uint32_t count_cycles(void *context) {
    (void)context;
    return (uint32_t)cycles();
}

static void print(void *context, const char *line) {
    (void)context;
    (void)puts(line);
}

static const kws_port port = {.print = print, .cycles = count_cycles};

#if KWS_WITH_MODEL
static KWS_ALIGNED uint8_t arena[KWS_ARENA_SIZE];
static kws_model model;
static kws_app app;

static void heard(const kws_detection *detection, void *context) {
    (void)context;
    printf("heard %s (%d %%) at %lu ms\n", detection->keyword, (int)(100.0f * detection->score),
           (unsigned long)(detection->end * 1000u / KWS_SAMPLE_RATE));
}

static int run(void) {
    kws_status status = kws_model_init(&model, arena, sizeof arena);
    if (status == KWS_OK) {
        status = kws_app_init(&app, &model, heard, NULL);
    }
    if (status == KWS_OK) {
        status = kws_self_test(&port, &app);
    }
    if (status == KWS_OK) {
        status = kws_app_reset(&app);
    }
    if (status == KWS_OK) {
        const uint64_t start = cycles();
        status = kws_app_process(&app, kws_vector_audio, KWS_VECTOR_SAMPLES);
        printf("application: %lu million cycles for %d ms of audio\n", (unsigned long)((cycles() - start) / 1000000u),
               KWS_VECTOR_SAMPLES * 1000 / KWS_SAMPLE_RATE);
    }
    if (status != KWS_OK) {
        printf("KWS_ERR %d\n", status);
    }
    return status == KWS_OK ? 0 : 1;
}
#else
static int run(void) {
    static kws_frontend_state frontend;
    static kws_detector_state detector;
    static int8_t input[KWS_INPUT_SIZE];
    kws_self_test_findings findings = {&port, 0, 0};
    (void)kws_self_test_frontend(&findings, &frontend, input);
    (void)kws_self_test_detector(&findings, &detector);
    puts(findings.failures == 0 ? "self-test of front end and detector passed" : "self-test FAILED");
    return findings.failures == 0 ? 0 : 1;
}
#endif

int main(void) {
    calibrate();
    puts("cycles below are instructions where this runs in QEMU");
    return run();
}
