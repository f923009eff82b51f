/* The application as a shared library, whose model is run by whoever loads it. */
#include "kws_app.h"

typedef int (*invoke_function)(const int8_t *input, int8_t *posteriors);

static invoke_function invoke;
static int8_t input[KWS_INPUT_SIZE], output[KWS_N_LABELS];

void set_invoke(invoke_function function);
void set_invoke(invoke_function function) { invoke = function; }

int kws_model_init(void) { return invoke ? KWS_OK : KWS_ERR_STATE; }
int kws_model_reset(void) { return KWS_OK; }
int8_t *kws_model_input(void) { return input; }

int kws_model_invoke(const int8_t **posteriors) {
    *posteriors = output;
    return invoke(input, output);
}
