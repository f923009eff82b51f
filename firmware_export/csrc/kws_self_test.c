/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_self_test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kws_detector.h"
#include "kws_fft.h"
#include "kws_self_test_parts.h"
#include "kws_vectors.h"

#if KWS_SELF_TEST

#if KWS_FIXED_POINT
#define FORM "fixed point"
#define MOST_STEPS 2
#define LEAST_EQUAL_PERCENT 85
#else
#define FORM "single precision"
#define MOST_STEPS 1
#define LEAST_EQUAL_PERCENT 99
#endif

/* A block size that divides neither the hop nor the frame. */
#define BLOCK 37

#define LINE 128

static void print(const kws_port *port, const char *format, va_list arguments) {
    char line[LINE];
    (void)vsnprintf(line, sizeof line, format, arguments);
    port->print(port->context, line);
}

void kws_self_test_print(const kws_port *port, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(port, format, arguments);
    va_end(arguments);
}

void kws_self_test_fail(kws_self_test_findings *findings, const char *format, ...) {
    va_list arguments;
    findings->failures++;
    va_start(arguments, format);
    print(findings->port, format, arguments);
    va_end(arguments);
}

kws_status kws_self_test_begin(const kws_self_test_findings *findings, const void *memory) {
    if (findings == NULL || findings->port == NULL || findings->port->print == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (memory == NULL) {
        kws_self_test_print(findings->port, "FAILED: the self-test has no memory, KWS_ERR %d", KWS_ERR_ARGUMENT);
        return KWS_ERR_ARGUMENT;
    }
    return KWS_OK;
}

uint32_t kws_self_test_now(const kws_port *port) { return port->cycles == NULL ? 0 : port->cycles(port->context); }

void kws_self_test_hear(kws_frontend_state *state, uint32_t from, uint32_t to) {
    while (from < to) {
        bool frame;
        size_t taken;
        const size_t left = (size_t)to - from;
        (void)kws_frontend_process(state, kws_vector_audio + from, left < BLOCK ? left : BLOCK, &taken, &frame);
        from += (uint32_t)taken;
    }
}

/* Prints the cost of the front end, which took `spent` cycles for `heard` samples, and the share of its transforms. */
static void print_speed(kws_self_test_findings *findings, kws_frontend_state *frontend, uint32_t spent,
                        uint32_t heard) {
    const kws_port *const port = findings->port;
    if (port->cycles != NULL) {
        const uint32_t start = kws_self_test_now(port);
        kws_rfft(frontend->work); /* of any values, because the cost does not depend on them */
        const uint32_t transform = kws_self_test_now(port) - start;
        const uint64_t second = (uint64_t)spent * KWS_SAMPLE_RATE / heard;
        const uint64_t floor = (uint64_t)transform * KWS_SAMPLE_RATE / KWS_HOP_LENGTH;
        kws_self_test_print(port, "front end: %lu cycles per second of audio, %lu of them transforms (%lu each)",
                            (unsigned long)second, (unsigned long)floor, (unsigned long)transform);
        findings->cycles += second;
    }
}

kws_status kws_self_test_frontend(kws_self_test_findings *findings, kws_frontend_state *frontend, int8_t *input) {
    int most = 0;
    uint32_t equal = 0, heard = 0, spent = 0;
    if (kws_self_test_begin(findings, frontend == NULL ? NULL : input) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    (void)kws_frontend_reset(frontend);
    for (int clip = 0; clip < KWS_VECTOR_CLIPS; clip++) {
        const uint32_t start = kws_self_test_now(findings->port);
        kws_self_test_hear(frontend, heard, kws_vector_ends[clip]);
        spent += kws_self_test_now(findings->port) - start;
        heard = kws_vector_ends[clip];
        (void)kws_frontend_features(frontend, input);
        for (int i = 0; i < KWS_INPUT_SIZE; i++) {
            const int steps = abs(input[i] - kws_vector_features[clip][i]);
            most = steps > most ? steps : most;
            equal += steps == 0 ? 1u : 0u;
        }
    }
    const uint32_t total = (uint32_t)KWS_VECTOR_CLIPS * KWS_INPUT_SIZE;
    kws_self_test_print(findings->port, "front end (" FORM "): %lu of %lu features equal, at most %d steps apart",
                        (unsigned long)equal, (unsigned long)total, most);
    print_speed(findings, frontend, spent, heard);
    if (most > MOST_STEPS || equal < total / 100 * LEAST_EQUAL_PERCENT) {
        kws_self_test_fail(findings, "FAILED: the front end does not compute what the host computed");
        return KWS_ERR_SELF_TEST;
    }
    return KWS_OK;
}

static bool is_same(const kws_vector_found *wanted, int step, const kws_detection *found) {
    return wanted->step == step && wanted->label == found->label && wanted->start == found->start &&
           wanted->end == found->end && wanted->score >= found->score && wanted->score <= found->score;
}

/* Compares the detection at an inference, or NULL, with the golden one. Returns how many golden ones are passed. */
static int compare(kws_self_test_findings *findings, int passed, int step, const kws_detection *found) {
    const kws_vector_found *const wanted = &kws_vector_detections[passed];
    const bool is_due = passed < KWS_VECTOR_DETECTIONS && wanted->step == step;
    if (found != NULL && !(is_due && is_same(wanted, step, found))) {
        kws_self_test_fail(findings, "FAILED: detected %s at inference %d, unlike the host", found->keyword, step);
    }
    if (found == NULL && is_due) {
        kws_self_test_fail(findings, "FAILED: did not detect %s at inference %d", kws_labels[wanted->label], step);
    }
    return passed < KWS_VECTOR_DETECTIONS && (found != NULL || is_due) ? passed + 1 : passed;
}

kws_status kws_self_test_detector(kws_self_test_findings *findings, kws_detector_state *detector) {
    if (kws_self_test_begin(findings, detector) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_port *const port = findings->port;
    const uint32_t before = findings->failures;
    int passed = 0; /* golden detections so far */
    (void)kws_detector_reset(detector);
    const uint32_t start = kws_self_test_now(port);
    uint64_t end = KWS_FRAME_LENGTH + (uint64_t)(KWS_STEP_FRAMES - 1) * KWS_HOP_LENGTH;
#if KWS_STATES
    for (int step = 0; step < KWS_VECTOR_STEPS; step++) {
        end += step % KWS_ANSWERS == 0 && step > 0 ? KWS_STEP_FRAMES * KWS_HOP_LENGTH : 0;
#else
    for (int step = 0; step < KWS_VECTOR_STEPS; step++, end += KWS_STEP_FRAMES * KWS_HOP_LENGTH) {
#endif /* KWS_STATES */
        kws_detection found;
        bool detected;
        (void)kws_detector_process(detector, &kws_detector_defaults, kws_vector_stream[step], end, &found, &detected);
        if (detected || kws_vector_detections[passed].step == step) {
            passed = compare(findings, passed, step, detected ? &found : NULL);
        }
    }
    const uint32_t spent = kws_self_test_now(port) - start;
    if (findings->failures == before) {
        kws_self_test_print(port, "detector: %d detections in %d inferences, as on the host", passed, KWS_VECTOR_STEPS);
    }
    if (port->cycles != NULL) {
#if KWS_STATES
        const uint64_t samples = (uint64_t)KWS_VECTOR_STEPS / KWS_ANSWERS * KWS_STEP_FRAMES * KWS_HOP_LENGTH;
#else
        const uint64_t samples = (uint64_t)KWS_VECTOR_STEPS * KWS_STEP_FRAMES * KWS_HOP_LENGTH;
#endif /* KWS_STATES */
        const uint64_t second = (uint64_t)spent * KWS_SAMPLE_RATE / samples;
        kws_self_test_print(port, "detector: %lu cycles per second of audio", (unsigned long)second);
        findings->cycles += second;
    }
    kws_self_test_print(port, "RAM: front end %lu bytes, detector %lu bytes", (unsigned long)sizeof(kws_frontend_state),
                        (unsigned long)sizeof(kws_detector_state));
    return findings->failures == before ? KWS_OK : KWS_ERR_SELF_TEST;
}

#endif /* KWS_SELF_TEST */
