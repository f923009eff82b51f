/* The self-test on a bare Cortex-M, printing through semihosting; the exit status is 0 when it passed. With the model
 * (make TFLM=...) the application then hears the golden audio, too. */
#include <stdint.h>
#include <stdio.h>

#include "kws_hal.h"
#include "kws_self_test.h"
#include "kws_vectors.h"
#if KWS_WITH_MODEL
#include "kws_app.h"
#endif

/* SysTick counts down from 2^24 - 1 at the core's clock. In QEMU with -icount, time advances by a fixed step for each
 * instruction, and the timer's clock is another: a loop of a known number of instructions tells the ratio. */
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
    __asm volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(n)::"cc"); /* a million instructions */
    ticks_per_million = (uint32_t)(ticks() - start);
}

static uint64_t cycles(void) { return ticks() * 1000000u / ticks_per_million; }

uint32_t kws_hal_cycles(void) { return (uint32_t)cycles(); }

void kws_hal_print(const char *line) { puts(line); }

#if KWS_WITH_MODEL
static kws_app app;

static void heard(const kws_detection *detection, void *user) {
    (void)user;
    printf("heard %s (%d %%) at %lu ms\n", detection->keyword, (int)(100.0f * detection->score),
           (unsigned long)(detection->end * 1000u / KWS_SAMPLE_RATE));
}
#else
static kws_frontend_state frontend;
#endif

int main(void) {
    const kws_self_test_port port = {kws_hal_print, kws_hal_cycles};
    calibrate();
    puts("cycles below are instructions where this runs in QEMU");
#if KWS_WITH_MODEL
    int status = kws_app_init(&app, heard, NULL);
    if (status == KWS_OK && kws_self_test(&port, &app.frontend) == 0) {
        status = kws_app_reset(&app);
        const uint64_t start = cycles();
        if (status == KWS_OK) {
            status = kws_app_process(&app, kws_vector_audio, KWS_VECTOR_SAMPLES);
        }
        printf("application: %lu million cycles for %d ms of audio\n",
               (unsigned long)((cycles() - start) / 1000000u), KWS_VECTOR_SAMPLES * 1000 / KWS_SAMPLE_RATE);
        return status == KWS_OK ? 0 : 1;
    }
    printf("KWS_ERR %d\n", status);
    return 1;
#else
    const int failures = kws_self_test_frontend(&port, &frontend) + kws_self_test_detector(&port);
    puts(failures == 0 ? "self-test of front end and detector passed" : "self-test FAILED");
    return failures != 0;
#endif
}
