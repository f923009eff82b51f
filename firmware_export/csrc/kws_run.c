#include "kws_run.h"

#include <stdio.h>

#include "kws_hal.h"
#include "kws_platform.h"
#include "kws_self_test.h"

static kws_app app;
static int16_t block[KWS_HOP_LENGTH];

/* An error of the board's own, which must not look like one of this library's. */
static int of_board(int status) { return status <= KWS_ERR_FIRST && status >= KWS_ERR_LAST ? KWS_ERR_HAL : status; }

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
        status = of_board(kws_hal_audio_start());
    }
    while (status == KWS_OK) {
        const int taken = kws_hal_audio_read(block, KWS_HOP_LENGTH);
        status = taken < 0                ? of_board(taken)
                 : taken > KWS_HOP_LENGTH ? KWS_ERR_HAL
                                          : kws_app_process(&app, block, (size_t)taken);
    }
    return status;
}

void kws_run_lost(uint32_t n_samples) {
    if (kws_app_lost(&app, n_samples) == KWS_OK && n_samples > 0) {
        char line[96];
        (void)snprintf(line, sizeof line, "overrun %lu: %lu samples were lost, of %lu ms in all",
                       (unsigned long)app.overruns, (unsigned long)n_samples,
                       (unsigned long)(app.n_samples * 1000 / KWS_SAMPLE_RATE));
        kws_hal_print(line);
    }
}

const kws_app *kws_run_state(void) { return &app; }
