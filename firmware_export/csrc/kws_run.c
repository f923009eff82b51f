/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_run.h"

#include <stdio.h>

#include "kws_platform.h"
#include "kws_self_test.h"

/* Samples to read at a time: a hop, or less to save stack. */
#define BLOCK (KWS_HOP_LENGTH < 256 ? KWS_HOP_LENGTH : 256)

/* Tells the application and the user that samples were lost. */
static kws_status lose(kws_app *app, const kws_port *port, uint32_t n_samples) {
    const kws_status status = kws_app_lost(app, n_samples);
    if (status == KWS_OK && n_samples > 0) {
        char line[96];
        (void)snprintf(line, sizeof line, "overrun %lu: %lu samples were lost, of %lu ms in all",
                       (unsigned long)app->overruns, (unsigned long)n_samples,
                       (unsigned long)(app->n_samples * 1000 / KWS_SAMPLE_RATE));
        port->print(port->context, line);
    }
    return status;
}

/* Hears one block. `returned` receives the return value of audio_read. */
static kws_status hear(kws_app *app, const kws_port *port, int *returned) {
    int16_t block[BLOCK];
    uint32_t lost = 0;
    *returned = port->audio_read(port->context, block, BLOCK, &lost);
    if (*returned < 0 || *returned > BLOCK) {
        return KWS_ERR_PORT;
    }
    const kws_status status = lose(app, port, lost);
    return status == KWS_OK ? kws_app_process(app, block, (size_t)*returned) : status;
}

static kws_status start(kws_app *app, const kws_port *port, int *returned) {
    kws_status status = kws_app_error(app);
    if (status == KWS_OK && (port == NULL || port->print == NULL || port->audio_read == NULL)) {
        status = KWS_ERR_ARGUMENT;
    }
#if KWS_SELF_TEST
    if (status == KWS_OK) {
        status = kws_self_test(port, app);
    }
#endif
    if (status == KWS_OK) {
        status = kws_app_reset(app);
    }
    if (status == KWS_OK && port->audio_start != NULL) {
        *returned = port->audio_start(port->context);
        status = *returned == 0 ? KWS_OK : KWS_ERR_PORT;
    }
    return status;
}

kws_status kws_run(kws_app *app, const kws_port *port, int *port_error) {
    int returned = 0;
    kws_status status = start(app, port, &returned);
    while (status == KWS_OK) {
        status = hear(app, port, &returned);
    }
    if (port_error != NULL) {
        *port_error = status == KWS_ERR_PORT ? returned : 0;
    }
    return status;
}
