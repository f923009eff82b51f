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

/* Called from kws_app_process, with the `user` of kws_app_init. Of what changes the kws_app, it may call kws_app_reset. */
typedef void (*kws_callback)(const kws_detection *detection, void *user);

/* Owned by the caller (static: it has some KiB); set up by kws_app_init. All but `config` is for reading. */
typedef struct kws_app {
    uint32_t set_up; /* whether kws_app_init was called */
    int status;      /* see kws_app_status */
    kws_frontend_state frontend;
    kws_detector_state detector;
    const kws_detector_config *config; /* &kws_detector_defaults; may be set to another after kws_app_init */
    kws_callback callback;
    void *user;
    uint64_t n_samples;  /* of the stream so far, those that were lost included */
    uint64_t start;      /* of what is heard without a gap */
    uint64_t lost;       /* samples of the stream that were lost */
    uint32_t overruns;   /* how often some were */
    uint32_t until_step; /* frames until the next inference */
} kws_app;

/* Every function returns KWS_OK or KWS_ERR_*. An error of kws_app_init or of the model ends the stream: all functions then
 * return this error and do nothing, until kws_app_init succeeds. Any other KWS_ERR_ARGUMENT leaves the stream as it was. */

/* Sets up the model (kws_model_init) and starts a stream; again, too, and after an error. `user` may be NULL, `callback` may
 * not. */
int kws_app_init(kws_app *app, kws_callback callback, void *user);

/* The error that ended the stream; KWS_OK if none has, KWS_ERR_STATE before kws_app_init. */
int kws_app_status(const kws_app *app);

/* Starts a new stream. */
int kws_app_reset(kws_app *app);

/* Takes a block of any length, mono, KWS_SAMPLE_RATE Hz. One of KWS_HOP_LENGTH samples costs a frame, and every
 * KWS_STEP_FRAMES-th of them an inference. A negative `n_samples` is KWS_ERR_ARGUMENT, too. */
int kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples);

/* Tells that so many samples were lost before those that come next. They are counted, the clock skips them, and detection
 * starts anew, as after silence: nothing is detected across the gap. */
int kws_app_lost(kws_app *app, uint32_t n_samples);

#ifdef __cplusplus
}
#endif

#endif /* KWS_APP_H_ */
