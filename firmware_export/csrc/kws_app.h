/* Keyword detection on a stream: PCM in, detections out through a callback. */
#ifndef KWS_APP_H_
#define KWS_APP_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_detector.h"
#include "kws_frontend.h"
#include "kws_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called from kws_app_process, with the `user` of kws_app_init. */
typedef void (*kws_callback)(const kws_detection *detection, void *user);

/* Owned by the caller (static: it has some KiB); set up by kws_app_init. */
typedef struct kws_app {
    kws_frontend_state frontend;
    kws_detector_state detector;
    const kws_detector_config *config; /* &kws_detector_defaults; may be set to another after kws_app_init */
    kws_callback callback;
    void *user;
    uint64_t n_samples;  /* of the stream so far */
    uint32_t until_step; /* frames until the next inference */
} kws_app;

/* Sets up the model and starts a stream. Returns KWS_OK or KWS_ERR_*. */
int kws_app_init(kws_app *app, kws_callback callback, void *user);

/* Starts a new stream. Returns KWS_OK or KWS_ERR_*. */
int kws_app_reset(kws_app *app);

/* Takes a block of any length, mono, KWS_SAMPLE_RATE Hz. One of KWS_HOP_LENGTH samples costs a frame, and every
 * KWS_STEP_FRAMES-th of them an inference. Returns KWS_OK or KWS_ERR_*; after an error the stream may go on. */
int kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples);

#ifdef __cplusplus
}
#endif

#endif /* KWS_APP_H_ */
