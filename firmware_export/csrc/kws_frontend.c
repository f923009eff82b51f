/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_frontend.h"

#include <string.h>

#include "kws_tables.h"

kws_status kws_frontend_reset(kws_frontend_state *state) {
    if (state == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    (void)memset(state->samples, 0, sizeof state->samples);
    kws_levels(state->samples, state->work, state->window[0]);
    for (int row = 1; row < KWS_N_FRAMES; row++) {
        (void)memcpy(state->window[row], state->window[0], sizeof state->window[0]);
    }
    state->n_samples = 0;
    state->skip = 0;
    state->oldest = 0;
    return KWS_OK;
}

kws_status kws_frontend_process(kws_frontend_state *state, const int16_t *samples, size_t n_samples, size_t *taken,
                                bool *frame) {
    if (taken == NULL || frame == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    *frame = false;
    if (state == NULL || samples == NULL || n_samples > SIZE_MAX / 2) {
        *taken = 0;
        return KWS_ERR_ARGUMENT;
    }
    const size_t skipped = n_samples < state->skip ? n_samples : state->skip;
    const size_t wanted = (size_t)KWS_FRAME_LENGTH - state->n_samples;
    const size_t kept = n_samples - skipped < wanted ? n_samples - skipped : wanted;
    *taken = skipped + kept;
    state->skip = (uint16_t)(state->skip - skipped);
    (void)memcpy(state->samples + state->n_samples, samples + skipped, kept * sizeof *samples);
    state->n_samples = (uint16_t)(state->n_samples + kept);
    if (state->n_samples == KWS_FRAME_LENGTH) {
        kws_levels(state->samples, state->work, state->window[state->oldest]);
        state->oldest = (uint16_t)((state->oldest + 1) % KWS_N_FRAMES);
#if KWS_HOP_LENGTH < KWS_FRAME_LENGTH
        state->n_samples = KWS_FRAME_LENGTH - KWS_HOP_LENGTH;
        (void)memmove(state->samples, state->samples + KWS_HOP_LENGTH, state->n_samples * sizeof *samples);
#else
        state->n_samples = 0;
        state->skip = KWS_HOP_LENGTH - KWS_FRAME_LENGTH;
#endif
        *frame = true;
    }
    return KWS_OK;
}

kws_status kws_frontend_features(const kws_frontend_state *state, int8_t input[KWS_INPUT_SIZE]) {
    if (state == NULL || input == NULL) {
        return KWS_ERR_ARGUMENT;
    }
#if KWS_RESIZE
    for (int row = 0; row < KWS_INPUT_FRAMES; row++) {
        const kws_level *lower = state->window[(state->oldest + kws_resize_lower[row]) % KWS_N_FRAMES];
        const kws_level *upper = state->window[(state->oldest + kws_resize_upper[row]) % KWS_N_FRAMES];
        for (int m = 0; m < KWS_N_MELS; m++) {
            *input++ = kws_level_between(lower[m], upper[m], row);
        }
    }
#else
    const size_t newer = (size_t)(KWS_N_FRAMES - state->oldest) * KWS_N_MELS;
    (void)memcpy(input, state->window[state->oldest], newer);
    (void)memcpy(input + newer, state->window, (size_t)state->oldest * KWS_N_MELS);
#endif
    return KWS_OK;
}
