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

void kws_self_test_print(const kws_self_test_port *port, const char *format, ...) {
    char line[128];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    port->print(line);
}

uint64_t kws_self_test_cycles;

bool kws_self_test_ready(const kws_self_test_port *port, const void *state) {
    if (port == NULL || port->print == NULL) {
        return false;
    }
    if (state == NULL) {
        kws_self_test_print(port, "FAILED: the self-test has no memory, KWS_ERR %d", KWS_ERR_ARGUMENT);
    }
    return state != NULL;
}

static uint32_t now(const kws_self_test_port *port) { return port->cycles == NULL ? 0 : port->cycles(); }

void kws_self_test_hear(kws_frontend_state *state, uint32_t from, uint32_t to) {
    while (from < to) {
        bool frame;
        const size_t left = to - from;
        from += (uint32_t)kws_frontend_process(state, kws_vector_audio + from, left < BLOCK ? left : BLOCK, &frame);
    }
}

int kws_self_test_frontend(const kws_self_test_port *port, kws_frontend_state *state) {
    static int8_t input[KWS_INPUT_SIZE];
    int most = 0;
    uint32_t equal = 0, heard = 0, spent = 0;
    if (!kws_self_test_ready(port, state)) {
        return 1;
    }
    kws_frontend_reset(state);
    for (int clip = 0; clip < KWS_VECTOR_CLIPS; clip++) {
        const uint32_t start = now(port);
        kws_self_test_hear(state, heard, kws_vector_ends[clip]);
        spent += now(port) - start;
        heard = kws_vector_ends[clip];
        kws_frontend_features(state, input);
        for (int i = 0; i < KWS_INPUT_SIZE; i++) {
            const int steps = abs(input[i] - kws_vector_features[clip][i]);
            most = steps > most ? steps : most;
            equal += steps == 0;
        }
    }
    const uint32_t total = (uint32_t)KWS_VECTOR_CLIPS * KWS_INPUT_SIZE;
    kws_self_test_print(port, "front end (" FORM "): %lu of %lu features equal, at most %d steps apart",
                        (unsigned long)equal, (unsigned long)total, most);
    if (port->cycles != NULL) {
        const uint32_t start = now(port);
        kws_rfft(state->work); /* of whatever the buffer holds: its cost does not depend on it */
        const uint32_t transform = now(port) - start;
        const uint64_t second = (uint64_t)spent * KWS_SAMPLE_RATE / heard;
        const uint64_t floor = (uint64_t)transform * KWS_SAMPLE_RATE / KWS_HOP_LENGTH;
        kws_self_test_print(port, "front end: %lu cycles per second of audio, %lu of them transforms (%lu each)",
                            (unsigned long)second, (unsigned long)floor, (unsigned long)transform);
        kws_self_test_cycles += second;
    }
    const int failed = most > MOST_STEPS || equal < total / 100 * LEAST_EQUAL_PERCENT;
    if (failed) {
        kws_self_test_print(port, "FAILED: the front end does not compute what the host computed");
    }
    return failed;
}

int kws_self_test_detector(const kws_self_test_port *port) {
    static kws_detector_state state;
    int failures = 0, found = 0; /* `found`: of the golden detections, those that are passed */
    if (!kws_self_test_ready(port, &state)) {
        return 1;
    }
    kws_detector_reset(&state);
    const uint32_t start = now(port);
    for (int step = 0; step < KWS_VECTOR_STEPS; step++) {
        const kws_vector_found *wanted = &kws_vector_detections[found];
        const uint64_t end = KWS_FRAME_LENGTH + ((uint64_t)step * KWS_STEP_FRAMES + KWS_STEP_FRAMES - 1) * KWS_HOP_LENGTH;
        kws_detection detection;
        if (kws_detector_process(&state, &kws_detector_defaults, kws_vector_stream[step], end, &detection)) {
            if (found == KWS_VECTOR_DETECTIONS || wanted->step != step || wanted->label != detection.label ||
                wanted->start != detection.start || wanted->end != detection.end ||
                wanted->score < detection.score || wanted->score > detection.score) {
                kws_self_test_print(port, "FAILED: detected %s at inference %d, unlike the host", detection.keyword, step);
                failures++;
            }
            found += found < KWS_VECTOR_DETECTIONS;
        } else if (found < KWS_VECTOR_DETECTIONS && wanted->step == step) {
            kws_self_test_print(port, "FAILED: did not detect %s at inference %d", kws_labels[wanted->label], step);
            failures++;
            found++;
        }
    }
    const uint32_t spent = now(port) - start;
    if (failures == 0) {
        kws_self_test_print(port, "detector: %d detections in %d inferences, as on the host", found, KWS_VECTOR_STEPS);
    }
    if (port->cycles != NULL) {
        const uint64_t samples = (uint64_t)KWS_VECTOR_STEPS * KWS_STEP_FRAMES * KWS_HOP_LENGTH;
        const uint64_t second = (uint64_t)spent * KWS_SAMPLE_RATE / samples;
        kws_self_test_print(port, "detector: %lu cycles per second of audio", (unsigned long)second);
        kws_self_test_cycles += second;
    }
    kws_self_test_print(port, "RAM: front end %lu bytes, detector %lu bytes", (unsigned long)sizeof(kws_frontend_state),
                        (unsigned long)sizeof(kws_detector_state));
    return failures;
}

#endif /* KWS_SELF_TEST */
