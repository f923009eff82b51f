#include "kws_app.h"

#define SET_UP 0x6b777361u /* of kws_app.set_up: nothing that memory holds by chance */

int kws_app_init(kws_app *app, kws_callback callback, void *user) {
    if (app == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    app->set_up = SET_UP;
    app->config = &kws_detector_defaults;
    app->callback = callback;
    app->user = user;
    app->status = callback == NULL ? KWS_ERR_ARGUMENT : kws_model_init();
    return kws_app_reset(app);
}

int kws_app_status(const kws_app *app) {
    return app == NULL ? KWS_ERR_ARGUMENT : app->set_up == SET_UP ? app->status : KWS_ERR_STATE;
}

/* Has the stream begin, or go on after a gap, at its sample `start`. */
static int restart(kws_app *app, uint64_t start) {
    kws_frontend_reset(&app->frontend);
    kws_detector_reset(&app->detector);
    app->start = app->n_samples = start;
    app->until_step = KWS_STEP_FRAMES;
    app->status = kws_model_reset();
    return app->status;
}

int kws_app_reset(kws_app *app) {
    const int status = kws_app_status(app);
    if (status != KWS_OK) {
        return status;
    }
    app->lost = 0;
    app->overruns = 0;
    return restart(app, 0);
}

int kws_app_lost(kws_app *app, uint32_t n_samples) {
    const int status = kws_app_status(app);
    if (status != KWS_OK || n_samples == 0) {
        return status;
    }
    app->lost += n_samples;
    app->overruns++;
    return restart(app, app->n_samples + n_samples);
}

static int step(kws_app *app) {
    int8_t *const input = kws_model_input();
    if (input == NULL) {
        return KWS_ERR_STATE;
    }
    kws_frontend_features(&app->frontend, input);
    const int8_t *posteriors;
    const int status = kws_model_invoke(&posteriors);
    kws_detection found;
    if (status == KWS_OK && kws_detector_process(&app->detector, app->config, posteriors, app->n_samples, &found)) {
        found.start = found.start > app->start ? found.start : app->start;
        app->callback(&found, app->user);
        return app->status; /* of a reset in the callback */
    }
    return status;
}

int kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples) {
    const int status = kws_app_status(app);
    if (status != KWS_OK) {
        return status;
    }
    if (app->config == NULL || (samples == NULL && n_samples > 0) || n_samples > SIZE_MAX / 2) {
        return KWS_ERR_ARGUMENT;
    }
    while (n_samples > 0 && app->status == KWS_OK) {
        bool frame;
        const size_t taken = kws_frontend_process(&app->frontend, samples, n_samples, &frame);
        samples += taken;
        n_samples -= taken;
        app->n_samples += taken;
        if (frame && --app->until_step == 0) {
            app->until_step = KWS_STEP_FRAMES;
            app->status = step(app);
        }
    }
    return app->status;
}
