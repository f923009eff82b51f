/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the self-test that needs the model. It has its own file, so that programs without TFLM can link. */
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

#if KWS_STATES
/* Runs the model on its input. Returns the largest difference from the golden answers, or -1 after an error: of scores,
 * if they must be equal, or of posteriors in 1/256. */
static int difference(const kws_port *port, kws_model *model, int hop, bool must_be_equal) {
    const int8_t *answers = NULL, *const golden = kws_vector_posteriors[hop];
    const kws_status status = kws_model_invoke(model, &answers);
    if (status != KWS_OK) {
        kws_self_test_print(port, "FAILED: kws_model_invoke returns %d", status);
        return -1;
    }
    int most = 0;
    for (int i = 0; i < KWS_ANSWERS * KWS_N_LABELS; i++) {
        const int apart = abs(kws_posteriors[answers[i] + 128] - kws_posteriors[golden[i] + 128]);
        const int steps = must_be_equal ? abs(answers[i] - golden[i]) : (apart + 127) / 128;
        most = steps > most ? steps : most;
    }
    return most;
}

/* Hears the golden audio by this board's own front end. Returns the largest difference. A few inferences may differ by
 * more than MOST_STEPS, because a posterior near one half may change easily. */
static int hear_audio(kws_self_test_findings *findings, kws_frontend_state *frontend, kws_model *model) {
    uint32_t heard = 0;
    int most = 0, own = 0, others = 0;
    (void)kws_frontend_reset(frontend);
    for (int hop = 0; hop < KWS_VECTOR_CLIPS && own >= 0; hop++) {
        kws_self_test_hear(frontend, heard, kws_vector_ends[hop]);
        heard = kws_vector_ends[hop];
        (void)kws_frontend_features(frontend, kws_model_input(model));
        own = difference(findings->port, model, hop, false);
        most = own > most ? own : most;
        others += own > MOST_STEPS ? 1 : 0;
    }
    if (own < 0 || others > KWS_VECTOR_CLIPS / 10) {
        kws_self_test_fail(findings, "FAILED: posteriors of golden audio differ by %d steps; of %d inferences too much",
                           most, others);
    }
    return most;
}

/* Hears the golden features. Returns how many answers are equal. `spent` receives the cycles of the last inference. */
static int hear_features(kws_self_test_findings *findings, kws_model *model, uint32_t *spent) {
    int equal = 0, exact = 0;
    for (int hop = 0; hop < KWS_VECTOR_CLIPS && exact == 0; hop++) {
        (void)memcpy(kws_model_input(model), kws_vector_features[hop], KWS_INPUT_SIZE);
        const uint32_t start = kws_self_test_now(findings->port);
        exact = difference(findings->port, model, hop, true);
        *spent = kws_self_test_now(findings->port) - start;
        equal += exact == 0 ? 1 : 0;
        if (exact != 0) {
            kws_self_test_fail(findings, "FAILED: scores of golden features %d differ by %d steps", hop, exact);
        }
    }
    return equal;
}

kws_status kws_self_test_inference(kws_self_test_findings *findings, kws_frontend_state *frontend, kws_model *model) {
    if (kws_self_test_begin(findings, model == NULL ? NULL : frontend) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_port *const port = findings->port;
    const uint32_t before = findings->failures;
    uint32_t spent = 0;
    int most = 0, equal = 0;
    kws_status status = kws_model_reset(model);
    if (status == KWS_OK) {
        most = hear_audio(findings, frontend, model);
        status = kws_model_reset(model); /* so that nothing of the audio is left for the features */
    }
    if (status != KWS_OK) {
        kws_self_test_fail(findings, "FAILED: the model is not set up (kws_model_init), KWS_ERR %d", status);
        return KWS_ERR_SELF_TEST;
    }
    equal = hear_features(findings, model, &spent);
    kws_self_test_print(port,
                        "model: %d of %d inferences of golden features equal; of golden audio at most %d steps apart",
                        equal, KWS_VECTOR_CLIPS, most);
#else
static int winner(const int8_t *posteriors) {
    int best = 0;
    for (int label = 1; label < KWS_N_LABELS; label++) {
        best = posteriors[label] > posteriors[best] ? label : best;
    }
    return best;
}

/* Runs the model on its input; returns the largest difference from the golden posteriors, or -1. */
static int difference(const kws_port *port, kws_model *model, int clip, bool *same_label) {
    const int8_t *posteriors = NULL, *golden = kws_vector_posteriors[clip];
    const kws_status status = kws_model_invoke(model, &posteriors);
    *same_label = false;
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

#if KWS_TAUGHT
/* Checks what is heard of taught words in the golden features that the model was just run on. */
static void hear_taught(kws_self_test_findings *findings, kws_model *model, int clip) {
    kws_taught taught;
    float embedding[KWS_EMBEDDING_SIZE], score = 0.0f;
    const int8_t *const output = kws_model_embedding(model), *const golden = kws_vector_embeddings[clip];
    if (output == NULL || memcmp(output, golden, KWS_EMBEDDING_SIZE) != 0) {
        kws_self_test_fail(findings, "FAILED: the embedding of golden features %d differs", clip);
    }
    kws_status status = kws_taught_open(&taught, kws_taught_table, sizeof kws_taught_table);
    if (status == KWS_OK) {
        (void)kws_taught_embedding(golden, embedding);
        status = kws_taught_score(&taught, 0, embedding, &score);
    }
    const float apart = score - kws_vector_scores[clip];
    if (status != KWS_OK || apart > 0.001f || apart < -0.001f) {
        kws_self_test_fail(findings, "FAILED: a taught word has another score in golden features %d, KWS_ERR %d", clip,
                           status);
    }
}
#endif

kws_status kws_self_test_inference(kws_self_test_findings *findings, kws_frontend_state *frontend, kws_model *model) {
    if (kws_self_test_begin(findings, model == NULL ? NULL : frontend) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_port *const port = findings->port;
    const uint32_t before = findings->failures;
    const kws_status status = kws_model_reset(model);
    if (status != KWS_OK) {
        kws_self_test_fail(findings, "FAILED: the model is not set up (kws_model_init), KWS_ERR %d", status);
        return KWS_ERR_SELF_TEST;
    }
    uint32_t spent = 0, heard = 0;
    int equal = 0, most = 0;
    (void)kws_frontend_reset(frontend);
    for (int clip = 0; clip < KWS_VECTOR_CLIPS; clip++) {
        bool same_label;
        (void)memcpy(kws_model_input(model), kws_vector_features[clip], KWS_INPUT_SIZE);
        const uint32_t start = kws_self_test_now(port);
        const int exact = difference(port, model, clip, &same_label);
        spent = kws_self_test_now(port) - start;
        equal += exact == 0 ? 1 : 0;
        if (exact != 0) {
            kws_self_test_fail(findings, "FAILED: posteriors of golden features %d differ by %d steps", clip, exact);
        }
#if KWS_TAUGHT
        hear_taught(findings, model, clip);
#endif
        kws_self_test_hear(frontend, heard, kws_vector_ends[clip]);
        heard = kws_vector_ends[clip];
        (void)kws_frontend_features(frontend, kws_model_input(model));
        const int own = difference(port, model, clip, &same_label);
        most = own > most ? own : most;
        if (own < 0 || own > MOST_STEPS || !same_label) {
            kws_self_test_fail(findings, "FAILED: posteriors of golden audio %d differ by %d steps", clip, own);
        }
    }
    kws_self_test_print(port,
                        "model: %d of %d posteriors of golden features equal; of golden audio at most %d steps apart",
                        equal, KWS_VECTOR_CLIPS, most);
#endif /* KWS_STATES */
    if (port->cycles != NULL) {
        kws_self_test_print(port, "model: %lu cycles an inference", (unsigned long)spent);
        findings->cycles += (uint64_t)spent * KWS_SAMPLE_RATE / (KWS_STEP_FRAMES * KWS_HOP_LENGTH);
    }
    kws_self_test_print(port, "arena: %lu of %lu bytes used; model: %lu bytes of flash",
                        (unsigned long)kws_model_arena_used(model), (unsigned long)KWS_ARENA_SIZE,
                        (unsigned long)kws_model_flash());
    return findings->failures == before ? KWS_OK : KWS_ERR_SELF_TEST;
}

kws_status kws_self_test(const kws_port *port, kws_app *app) {
    kws_self_test_findings findings = {port, 0, 0};
    if (kws_self_test_begin(&findings, app) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_status status = kws_app_error(app);
    if (status != KWS_OK) {
        kws_self_test_print(port, "FAILED: the application is not set up (kws_app_init), KWS_ERR %d", status);
        return status;
    }
    (void)kws_self_test_frontend(&findings, &app->frontend, kws_model_input(app->model));
    (void)kws_self_test_detector(&findings, &app->detector);
    (void)kws_self_test_inference(&findings, &app->frontend, app->model);
    if (port->cycles != NULL) {
        kws_self_test_print(port, "speed: %lu.%lu million cycles per second of audio; a slower core loses samples",
                            (unsigned long)(findings.cycles / 1000000), (unsigned long)(findings.cycles / 100000 % 10));
    }
    if (findings.failures != 0) {
        kws_self_test_print(port, "self-test FAILED: %lu checks", (unsigned long)findings.failures);
        return KWS_ERR_SELF_TEST;
    }
    kws_self_test_print(port, "self-test passed");
    return KWS_OK;
}

#endif /* KWS_SELF_TEST */
