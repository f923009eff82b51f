#include "kws_app.h"

int kws_app_init(kws_app *app, kws_callback callback, void *user) {
    app->config = &kws_detector_defaults;
    app->callback = callback;
    app->user = user;
    const int status = kws_model_init();
    return status == KWS_OK ? kws_app_reset(app) : status;
}

int kws_app_reset(kws_app *app) {
    kws_frontend_reset(&app->frontend);
    kws_detector_reset(&app->detector);
    app->n_samples = 0;
    app->until_step = KWS_STEP_FRAMES;
    return kws_model_reset();
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
        app->callback(&found, app->user);
    }
    return status;
}

int kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples) {
    int status = KWS_OK;
    while (n_samples > 0) {
        bool frame;
        const size_t taken = kws_frontend_process(&app->frontend, samples, n_samples, &frame);
        samples += taken;
        n_samples -= taken;
        app->n_samples += taken;
        if (frame && --app->until_step == 0) {
            app->until_step = KWS_STEP_FRAMES;
            const int now = step(app);
            status = now == KWS_OK ? status : now;
        }
    }
    return status;
}
