/* The part of the self-test that needs the model, in a file of its own: programs without TFLM link without it. */
#include <stdlib.h>
#include <string.h>

#include "kws_model.h"
#include "kws_self_test.h"
#include "kws_self_test_parts.h"
#include "kws_vectors.h"

#if KWS_SELF_TEST

#if KWS_FIXED_POINT
#define MOST_STEPS 32
#else
#define MOST_STEPS 16
#endif

static int winner(const int8_t *posteriors) {
    int best = 0;
    for (int label = 1; label < KWS_N_LABELS; label++) {
        best = posteriors[label] > posteriors[best] ? label : best;
    }
    return best;
}

/* Runs the model on its input; returns the largest difference from the golden posteriors, or -1. */
static int difference(const kws_self_test_port *port, int clip, bool *same_label) {
    const int8_t *posteriors, *golden = kws_vector_posteriors[clip];
    const int status = kws_model_invoke(&posteriors);
    if (status != KWS_OK) {
        kws_self_test_print(port, "FAILED: kws_model_invoke returns %d", status);
        return -1;
    }
    int most = 0;
    for (int label = 0; label < KWS_N_LABELS; label++) {
        const int steps = abs(posteriors[label] - golden[label]);
        most = steps > most ? steps : most;
    }
    *same_label = winner(posteriors) == winner(golden);
    return most;
}

int kws_self_test_model(const kws_self_test_port *port, kws_frontend_state *state) {
    int failures = 0;
    if (!kws_self_test_ready(port, state)) {
        return 1;
    }
    const int status = kws_model_reset();
    if (status != KWS_OK) {
        kws_self_test_print(port, "FAILED: the model is not set up (kws_model_init), KWS_ERR %d", status);
        return 1;
    }
    uint32_t spent = 0, heard = 0;
    int equal = 0, most = 0;
    kws_frontend_reset(state);
    for (int clip = 0; clip < KWS_VECTOR_CLIPS; clip++) {
        bool same_label;
        memcpy(kws_model_input(), kws_vector_features[clip], KWS_INPUT_SIZE);
        const uint32_t start = port->cycles == NULL ? 0 : port->cycles();
        const int exact = difference(port, clip, &same_label);
        spent = port->cycles == NULL ? 0 : port->cycles() - start;
        equal += exact == 0;
        if (exact != 0) {
            kws_self_test_print(port, "FAILED: posteriors of golden features %d differ by %d steps", clip, exact);
            failures++;
        }
        kws_self_test_hear(state, heard, kws_vector_ends[clip]);
        heard = kws_vector_ends[clip];
        kws_frontend_features(state, kws_model_input());
        const int own = difference(port, clip, &same_label);
        most = own > most ? own : most;
        if (own < 0 || own > MOST_STEPS || !same_label) {
            kws_self_test_print(port, "FAILED: posteriors of golden audio %d differ by %d steps", clip, own);
            failures++;
        }
    }
    kws_self_test_print(port, "model: %d of %d posteriors of golden features equal; of golden audio at most %d steps apart",
                        equal, KWS_VECTOR_CLIPS, most);
    if (port->cycles != NULL) {
        kws_self_test_print(port, "model: %lu cycles an inference", (unsigned long)spent);
        kws_self_test_cycles += (uint64_t)spent * KWS_SAMPLE_RATE / (KWS_STEP_FRAMES * KWS_HOP_LENGTH);
    }
    kws_self_test_print(port, "arena: %lu of %lu bytes used; model: %lu bytes of flash",
                        (unsigned long)kws_model_arena_used(), (unsigned long)KWS_ARENA_SIZE,
                        (unsigned long)kws_model_size());
    return failures;
}

int kws_self_test(const kws_self_test_port *port, kws_frontend_state *state) {
    kws_self_test_cycles = 0;
    const int failures =
        kws_self_test_frontend(port, state) + kws_self_test_detector(port) + kws_self_test_model(port, state);
    if (!kws_self_test_ready(port, state)) {
        return failures;
    }
    if (port->cycles != NULL) {
        kws_self_test_print(port, "speed: %lu.%lu million cycles per second of audio; a slower core loses samples",
                            (unsigned long)(kws_self_test_cycles / 1000000),
                            (unsigned long)(kws_self_test_cycles / 100000 % 10));
    }
    if (failures == 0) {
        kws_self_test_print(port, "self-test passed");
    } else {
        kws_self_test_print(port, "self-test FAILED: %d checks", failures);
    }
    return failures;
}

#endif /* KWS_SELF_TEST */
