/* SPDX-License-Identifier: Apache-2.0 */
/* The application as a shared library, whose model is run by whoever loads it. */
#include "kws_app.h"

typedef int (*invoke_function)(const int8_t *input, int8_t *posteriors);

static invoke_function invoke;
static int8_t input[KWS_INPUT_SIZE], output[KWS_N_LABELS];

void set_invoke(invoke_function function);
void set_invoke(invoke_function function) { invoke = function; }

kws_status kws_model_reset(kws_model *model) {
    (void)model;
    return invoke ? KWS_OK : KWS_ERR_STATE;
}

int8_t *kws_model_input(kws_model *model) {
    (void)model;
    return input;
}

kws_status kws_model_invoke(kws_model *model, const int8_t **posteriors) {
    (void)model;
    *posteriors = output;
    return invoke(input, output) == 0 ? KWS_OK : KWS_ERR_INVOKE;
}
