/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_app.h"

#define SET_UP 0x6b777361u /* kws_app.set_up: a value that memory does not hold by chance */

size_t kws_app_sizeof(void) { return sizeof(kws_app); }

kws_status kws_app_init(kws_app *app, kws_model *model, kws_callback callback, void *context) {
    if (app == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    app->set_up = SET_UP;
    app->status = model == NULL || callback == NULL ? KWS_ERR_ARGUMENT : KWS_OK;
    app->model = model;
    app->config = &kws_detector_defaults;
    app->callback = callback;
    app->context = context;
#if KWS_TAUGHT
    if (app->status == KWS_OK) {
        app->status = kws_taught_open(&app->taught, kws_taught_table, sizeof kws_taught_table);
    }
#endif
    return kws_app_reset(app);
}

#if KWS_TAUGHT
kws_status kws_app_set_words(kws_app *app, const void *table, size_t size) {
    const kws_status status = kws_app_error(app);
    return status == KWS_OK ? kws_taught_open(&app->taught, table, size) : status;
}
#endif

kws_status kws_app_error(const kws_app *app) {
    if (app == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    return app->set_up == SET_UP ? app->status : KWS_ERR_STATE;
}

/* Begins the stream, or continues it after a gap, at its sample `start`. */
static kws_status restart(kws_app *app, uint64_t start) {
    (void)kws_frontend_reset(&app->frontend);
    (void)kws_detector_reset(&app->detector);
#if KWS_TAUGHT
    (void)kws_taught_reset(&app->taught);
#endif
    app->start = start;
    app->n_samples = start;
    app->until_step = KWS_STEP_FRAMES;
    app->status = kws_model_reset(app->model);
    return app->status;
}

kws_status kws_app_reset(kws_app *app) {
    const kws_status status = kws_app_error(app);
    if (status != KWS_OK) {
        return status;
    }
    app->lost = 0;
    app->overruns = 0;
    return restart(app, 0);
}

kws_status kws_app_lost(kws_app *app, uint32_t n_samples) {
    const kws_status status = kws_app_error(app);
    if (status != KWS_OK || n_samples == 0) {
        return status;
    }
    app->lost += n_samples;
    app->overruns++;
    return restart(app, app->n_samples + n_samples);
}

#if KWS_STATES
/* Gives the detector the answers of an inference, the oldest first. A reset in the callback drops the rest. */
static kws_status detect(kws_app *app, const int8_t *answers) {
    const uint64_t end = app->n_samples;
    kws_status status = KWS_OK;
    for (int answer = 0; answer < KWS_ANSWERS && status == KWS_OK && app->n_samples == end; answer++) {
        const int8_t *const row = answers + answer * KWS_N_LABELS;
        kws_detection found = {NULL, 0, false, 0.0f, 0, 0};
        bool detected = false;
        status = kws_detector_process(&app->detector, app->config, row, end, &found, &detected);
        if (detected) {
            found.start = found.start > app->start ? found.start : app->start;
            app->callback(&found, app->context);
            status = app->status; /* a reset in the callback may have set it */
        }
    }
    return status;
}

static kws_status step(kws_app *app) {
    const int8_t *answers = NULL;
    int8_t *const input = kws_model_input(app->model);
    if (input == NULL) {
        return KWS_ERR_STATE;
    }
    (void)kws_frontend_features(&app->frontend, input);
    const kws_status status = kws_model_invoke(app->model, &answers);
    return status == KWS_OK ? detect(app, answers) : status;
}
#else
static kws_status step(kws_app *app) {
    const int8_t *posteriors = NULL;
    kws_detection found = {NULL, 0, false, 0.0f, 0, 0};
    bool detected = false;
    int8_t *const input = kws_model_input(app->model);
    if (input == NULL) {
        return KWS_ERR_STATE;
    }
    (void)kws_frontend_features(&app->frontend, input);
    kws_status status = kws_model_invoke(app->model, &posteriors);
    if (status == KWS_OK) {
        status = kws_detector_process(&app->detector, app->config, posteriors, app->n_samples, &found, &detected);
    }
#if KWS_TAUGHT
    if (status == KWS_OK) {
        status = kws_taught_process(&app->taught, &app->detector, app->config, kws_model_embedding(app->model),
                                    app->n_samples, &found, &detected);
    }
#endif
    if (detected) {
        found.start = found.start > app->start ? found.start : app->start;
        app->callback(&found, app->context);
        status = app->status; /* a reset in the callback may have set it */
    }
    return status;
}
#endif /* KWS_STATES */

kws_status kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples) {
    const kws_status status = kws_app_error(app);
    if (status != KWS_OK) {
        return status;
    }
    if (app->config == NULL || (samples == NULL && n_samples > 0) || n_samples > SIZE_MAX / 2) {
        return KWS_ERR_ARGUMENT;
    }
    size_t taken = 0;
    for (size_t at = 0; at < n_samples && app->status == KWS_OK; at += taken) {
        bool frame = false;
        app->status = kws_frontend_process(&app->frontend, samples + at, n_samples - at, &taken, &frame);
        app->n_samples += taken;
        if (frame && --app->until_step == 0) {
            app->until_step = KWS_STEP_FRAMES;
            app->status = step(app);
        }
    }
    return app->status;
}
