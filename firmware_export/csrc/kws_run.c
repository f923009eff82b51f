#include "kws_run.h"

#include "kws_hal.h"
#include "kws_platform.h"
#include "kws_self_test.h"

static kws_app app;
static int16_t block[KWS_HOP_LENGTH];

int kws_run(kws_callback callback, void *user) {
    int status = kws_app_init(&app, callback, user);
#if KWS_SELF_TEST
    const kws_self_test_port port = {kws_hal_print, kws_hal_cycles};
    if (status == KWS_OK && kws_self_test(&port, &app.frontend) != 0) {
        return KWS_ERR_SELF_TEST;
    }
#endif
    if (status == KWS_OK) {
        status = kws_app_reset(&app);
    }
    if (status == KWS_OK) {
        status = kws_hal_audio_start();
    }
    while (status == KWS_OK) {
        const int taken = kws_hal_audio_read(block, KWS_HOP_LENGTH);
        status = taken < 0 ? taken : kws_app_process(&app, block, (size_t)taken);
    }
    return status;
}
