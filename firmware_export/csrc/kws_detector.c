/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_detector.h"

#include <string.h>

kws_status kws_detector_reset(kws_detector_state *state) {
    if (state == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    (void)memset(state, 0, sizeof *state);
    for (int label = 0; label < KWS_N_LABELS; label++) {
        state->released[label] = true;
    }
    return KWS_OK;
}

/* Whether other speech precedes the posteriors that are averaged. */
static bool in_speech(const kws_detector_state *state) {
    uint32_t sum = 0;
    for (int step = 0; step < KWS_SMOOTHING_STEPS; step++) {
        sum += state->spoken[(state->oldest + step) % KWS_SPOKEN_STEPS];
    }
#if KWS_STATES
    return 3 * sum >= 65536u * KWS_SMOOTHING_STEPS;
#else
    return 3 * sum >= 512u * KWS_SMOOTHING_STEPS;
#endif /* KWS_STATES */
}

/* The index after `i` in a ring of `n`. */
static uint16_t after(uint16_t i, uint16_t n) { return (uint16_t)(i + 1u < n ? i + 1u : 0u); }

/* Takes posteriors; returns whether there are enough of them for an average. */
static bool take(kws_detector_state *state, const kws_detector_config *config, const int8_t *posteriors) {
#if KWS_STATES
    uint32_t *const counted = state->history[state->next]; /* in the refractory time, the row stays the next one */
#else
    uint16_t *const counted = state->history[state->next]; /* in the refractory time, the row stays the next one */
#endif /* KWS_STATES */
    (void)memset(counted, 0, sizeof state->history[0]);
    for (int label = 0; label < KWS_N_LABELS; label++) {
        const uint8_t as = config->counts_for[label];
        if (as < KWS_N_LABELS) {
#if KWS_STATES
            counted[as] += kws_posteriors[posteriors[label] + 128];
#else
            counted[as] = (uint16_t)(counted[as] + posteriors[label] + 128);
#endif /* KWS_STATES */
        }
    }
    for (int label = 0; label < KWS_N_LABELS; label++) {
        if (counted[label] < config->releases[label]) {
            state->released[label] = true;
        }
    }
    if (config->unknown_label < KWS_N_LABELS) {
        state->spoken[state->oldest] = counted[config->unknown_label];
        state->oldest = after(state->oldest, KWS_SPOKEN_STEPS);
    }
    if (state->armed != 0) {
        state->armed--;
    }
    if (state->wait != 0) {
        state->wait--;
        return false;
    }
    state->next = after(state->next, KWS_SMOOTHING_STEPS);
    if (state->filled < KWS_SMOOTHING_STEPS) {
        state->filled++;
    }
    return state->filled == KWS_SMOOTHING_STEPS;
}

/* The label with the largest sum of posteriors, and that sum in `largest`. */
static int most_likely(const kws_detector_state *state, uint32_t *largest) {
    int best = 0;
    *largest = 0;
    for (int label = 0; label < KWS_N_LABELS; label++) {
        uint32_t sum = 0;
        for (int step = 0; step < KWS_SMOOTHING_STEPS; step++) {
            sum += state->history[step][label];
        }
        if (label == 0 || sum > *largest) {
            best = label;
            *largest = sum;
        }
    }
    return best;
}

/* Whether a label with this sum of posteriors is detected. */
static bool is_detected(const kws_detector_state *state, const kws_detector_config *config, int label, uint32_t sum) {
    if (config->thresholds[label] == 0 || sum < config->thresholds[label] || !state->released[label]) {
        return false;
    }
    if (sum < config->thresholds_in_speech[label] && in_speech(state)) {
        return false;
    }
    return config->wake_label >= KWS_N_LABELS || label == config->wake_label || state->armed != 0;
}

kws_status kws_detector_process(kws_detector_state *state, const kws_detector_config *config,
                                const int8_t posteriors[KWS_N_LABELS], uint64_t end, kws_detection *found,
                                bool *detected) {
    if (detected == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    *detected = false;
    if (state == NULL || config == NULL || posteriors == NULL || found == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (!take(state, config, posteriors)) {
        return KWS_OK;
    }
    uint32_t sum;
    const int best = most_likely(state, &sum);
    if (!is_detected(state, config, best, sum)) {
        return KWS_OK;
    }
    const bool wake = best == config->wake_label;
    state->armed = wake ? config->armed_steps + 1 : 0;
    state->released[best] = false;
    state->wait = config->refractory_steps;
    state->filled = 0;
    found->keyword = kws_labels[best];
    found->label = (uint8_t)best;
    found->wake = wake;
#if KWS_STATES
    found->score = (float)sum / 32768.0f / (float)KWS_SMOOTHING_STEPS;
#else
    found->score = (float)sum / 256.0f / (float)KWS_SMOOTHING_STEPS;
#endif /* KWS_STATES */
    found->start = end > KWS_CLIP_SAMPLES ? end - KWS_CLIP_SAMPLES : 0;
    found->end = end;
    *detected = true;
    return KWS_OK;
}
