/* What the exported functions do with errors, with arguments that are none, and with samples that were lost. Each check
 * that fails is a line; the exit status is their number. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "answers.h"
#include "kws_hal.h"
#include "kws_model.h"
#include "kws_platform.h"
#include "kws_quant.h"
#include "kws_ring.h"
#include "kws_run.h"
#include "kws_self_test.h"

#define SECOND KWS_SAMPLE_RATE
#define NEGATIVE(n) ((size_t)0 - (size_t)(n)) /* what a negative number becomes as a size */

static int failures;
#define IS(value, wanted) is(__LINE__, #value, (long)(value), (long)(wanted))

static void is(int line, const char *text, long value, long wanted) {
    if (value != wanted) {
        printf("line %d: %s is %ld, not %ld\n", line, text, value, wanted);
        failures++;
    }
}

/* The board. */
static int start_returns, read_returns, reads_left, last_read;
static uint32_t lost_before_next;
static char printed[200];

int kws_hal_audio_start(void) { return start_returns; }

int kws_hal_audio_read(int16_t *samples, size_t n) {
    if (reads_left-- == 0) {
        return last_read;
    }
    kws_run_lost(lost_before_next);
    lost_before_next = 0;
    memset(samples, 0, n * sizeof *samples);
    return read_returns < 0 ? (int)n : read_returns;
}

void kws_hal_print(const char *line) {
    printed[0] = '\0';
    strncat(printed, line, sizeof printed - 1);
}

uint32_t kws_hal_cycles(void) {
    static uint32_t cycles;
    return cycles += 1000;
}

static int16_t silence[SECOND];
static kws_app *restarted; /* by reset_that_fails */

static void reset_that_fails(const kws_detection *found, void *user) {
    (void)found;
    ++*(int *)user;
    tflm_fails = 1;
    IS(kws_app_reset(restarted), KWS_ERR_INVOKE);
    tflm_fails = 0;
}

static void hear(const kws_detection *found, void *user) {
    (void)found;
    ++*(int *)user;
}

static void errors_stick(void) {
    static kws_app app;
    int heard = 0;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE); /* before kws_app_init */
    IS(kws_app_reset(&app), KWS_ERR_STATE);
    IS(kws_app_lost(&app, 5), KWS_ERR_STATE);
    memset(&app, 0xa5, sizeof app);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE);
    IS(kws_model_input() == NULL, true);
    IS(kws_model_reset(), KWS_ERR_STATE);
    IS(kws_model_arena_used(), 0);
    const int8_t *posteriors = NULL;
    IS(kws_model_invoke(&posteriors), KWS_ERR_STATE);

    tflm_need = KWS_ARENA_SIZE + 1; /* an initialisation that fails */
    IS(kws_app_init(&app, hear, &heard), KWS_ERR_ARENA);
    for (int second = 0; second < 10; second++) {
        IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARENA);
    }
    IS(kws_app_reset(&app), KWS_ERR_ARENA);
    IS(kws_app_lost(&app, 1), KWS_ERR_ARENA);
    IS(kws_app_status(&app), KWS_ERR_ARENA);
    IS(tflm_invoked, 0);
    tflm_need = 20000;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARENA);
    IS(kws_app_init(&app, hear, &heard), KWS_OK);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(app.n_samples, SECOND);

    tflm_fails = 1; /* an inference that fails */
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_INVOKE);
    tflm_fails = 0;
    const unsigned invoked = tflm_invoked;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_INVOKE);
    IS(kws_app_reset(&app), KWS_ERR_INVOKE);
    IS(kws_app_lost(&app, 1), KWS_ERR_INVOKE);
    IS(tflm_invoked, invoked);
    IS(kws_app_init(&app, hear, &heard), KWS_OK);
    IS(app.n_samples, 0);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(kws_app_init(&app, hear, &heard), KWS_OK); /* twice */
    IS(app.n_samples, 0);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(tflm_invoked > invoked, true);

    restarted = &app; /* a reset that fails in the callback */
    heard = 0;
    IS(kws_app_init(&app, reset_that_fails, &heard), KWS_OK);
    int status = KWS_OK;
    for (int second = 0; second < 60 && heard == 0; second++) {
        status = kws_app_process(&app, silence, SECOND);
    }
    IS(heard, 1);
    IS(status, KWS_ERR_INVOKE);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_INVOKE);
    IS(heard, 1);
}

static void arguments(void) {
    static kws_app app;
    int heard = 0;
    IS(kws_app_init(NULL, hear, &heard), KWS_ERR_ARGUMENT);
    IS(kws_app_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_app_status(NULL), KWS_ERR_ARGUMENT);
    IS(kws_app_lost(NULL, 1), KWS_ERR_ARGUMENT);
    IS(kws_app_process(NULL, silence, 1), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, NULL, &heard), KWS_ERR_ARGUMENT);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, hear, &heard), KWS_OK);
    IS(kws_app_process(&app, NULL, 1), KWS_ERR_ARGUMENT);
    IS(kws_app_process(&app, silence, NEGATIVE(1)), KWS_ERR_ARGUMENT);
    IS(kws_app_process(&app, silence, NEGATIVE(0x7000)), KWS_ERR_ARGUMENT);
    app.config = NULL;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARGUMENT);
    app.config = &kws_detector_defaults;
    IS(app.n_samples, 0);
    IS(kws_app_process(&app, NULL, 0), KWS_OK);
    IS(kws_app_lost(&app, 0), KWS_OK);
    IS(app.overruns, 0);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(kws_model_invoke(NULL), KWS_ERR_ARGUMENT);

    bool frame = true, *no_frame = NULL;
    static int8_t input[KWS_INPUT_SIZE];
    IS(kws_frontend_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_frontend_features(NULL, input), KWS_ERR_ARGUMENT);
    IS(kws_frontend_features(&app.frontend, NULL), KWS_ERR_ARGUMENT);
    IS(kws_frontend_process(NULL, silence, 5, &frame), 0);
    IS(frame, false);
    frame = true;
    IS(kws_frontend_process(&app.frontend, NULL, 5, &frame), 0);
    IS(kws_frontend_process(&app.frontend, silence, 5, no_frame), 0);
    IS(kws_frontend_process(&app.frontend, silence, NEGATIVE(5), &frame), 0);
    IS(frame, false);
    kws_detection found;
    const int8_t *posteriors = kws_vector_stream[0];
    IS(kws_detector_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_detector_process(NULL, &kws_detector_defaults, posteriors, 0, &found), false);
    IS(kws_detector_process(&app.detector, NULL, posteriors, 0, &found), false);
    IS(kws_detector_process(&app.detector, &kws_detector_defaults, NULL, 0, &found), false);
    IS(kws_detector_process(&app.detector, &kws_detector_defaults, posteriors, 0, NULL), false);
    const float nought = (float)app.lost;
    IS(kws_quantize(nought / nought, 1.0f, 0), -128);
    IS(kws_quantize(1.0f / nought, 1.0f, 0), 127);
    IS(kws_quantize(-1.0f / nought, 1.0f, 0), -128);

    const kws_self_test_port port = {kws_hal_print, NULL}, mute = {NULL, NULL};
    IS(kws_self_test(NULL, &app.frontend) > 0, true);
    IS(kws_self_test(&mute, &app.frontend) > 0, true);
    IS(kws_self_test(&port, NULL) > 0, true);
    IS(kws_self_test_frontend(&port, NULL), 1);
    IS(kws_self_test_model(&port, NULL), 1);
    IS(kws_self_test_detector(NULL), 1);
    IS(kws_self_test(&port, &app.frontend), 0);
}

static void memory_of_the_application(void) {
    static uint8_t mine[KWS_ARENA_SIZE + 16];
    static kws_app app;
    int heard = 0;
    IS(kws_model_use_arena(NULL, sizeof mine), KWS_ERR_ARGUMENT);
    IS(kws_model_use_arena(mine, 1023), KWS_ERR_ARGUMENT);
    IS(kws_model_use_arena(mine, NEGATIVE(1)), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, hear, &heard), KWS_OK);
    IS(tflm_arena_bytes, KWS_ARENA_SIZE);
    IS(kws_model_use_arena(mine, 1024), KWS_OK);
    IS(kws_app_init(&app, hear, &heard), KWS_ERR_ARENA);
    IS(kws_model_use_arena(mine, sizeof mine), KWS_OK);
    IS(kws_app_init(&app, hear, &heard), KWS_OK);
    IS(tflm_arena == mine, true);
    IS(tflm_arena_bytes, sizeof mine);
}

/* kws_run, whose board returns `last` after some reads. */
static int run(int start, int read, int last) {
    int heard = 0;
    start_returns = start;
    read_returns = read;
    reads_left = 30;
    last_read = last;
    return kws_run(hear, &heard);
}

static void errors_of_the_board(void) {
    const int numbers[] = {-1, -2, -3, -4, -5, -6, -7, -110, -0x105, -0xffff, -30000, -30100, -2130706432};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        IS(run(numbers[i], -1, 0), numbers[i]);
        IS(run(0, -1, numbers[i]), numbers[i]);
    }
    IS(run(0x105, -1, 0), 0x105); /* an esp_err_t as it is */
    IS(run(KWS_ERR_ARENA, -1, 0), KWS_ERR_HAL);
    IS(run(0, -1, KWS_ERR_LAST), KWS_ERR_HAL);
    IS(run(0, -1, KWS_HOP_LENGTH + 1), KWS_ERR_HAL);
    IS(run(0, 0, -5), -5); /* reads that time out */
    IS(kws_run(NULL, NULL), KWS_ERR_ARGUMENT);
    IS(kws_app_status(kws_run_state()), KWS_ERR_ARGUMENT);
}

static void lost_samples(void) {
    lost_before_next = 12345;
    IS(run(0, -1, -9), -9);
    IS(kws_run_state()->lost, 12345);
    IS(kws_run_state()->overruns, 1);
    IS(kws_run_state()->n_samples, 12345 + 30 * KWS_HOP_LENGTH);
    IS(strstr(printed, "12345 samples were lost") != NULL, true);
    IS(run(0, -1, -9), -9);
    IS(kws_run_state()->lost, 0);
}

static void ring(void) {
    static int16_t memory[8], block[20], out[20];
    static kws_ring ring;
    uint32_t lost = 99;
    for (int16_t i = 0; i < 20; i++) {
        block[i] = i;
    }
    IS(kws_ring_write(&ring, block, 3), 0); /* before kws_ring_init */
    IS(kws_ring_read(&ring, out, 3, &lost), 0);
    IS(kws_ring_init(NULL, memory, 8), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, NULL, 8), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 0), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 1), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 6), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 0x80000000u), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 8), KWS_OK);
    IS(kws_ring_write(NULL, block, 3), 0);
    IS(kws_ring_write(&ring, NULL, 3), 0);
    IS(kws_ring_write(&ring, block, NEGATIVE(3)), 0);
    lost = 99;
    IS(kws_ring_read(NULL, out, 3, &lost), 0);
    IS(lost, 0);
    lost = 99;
    IS(kws_ring_read(&ring, NULL, 3, &lost), 0);
    IS(lost, 0);
    IS(kws_ring_read(&ring, out, 3, NULL), 0);
    IS(kws_ring_read(&ring, out, 3, &lost), 0);
    IS(lost, 0);
    ring.written = ring.taken = UINT32_MAX - 4; /* counters wrap */
    ring.lost = ring.told = UINT32_MAX - 3;
    for (int round = 0; round < 5; round++) {
        IS(kws_ring_write(&ring, block, 5), 5);
        IS(kws_ring_write(&ring, block + 5, 6), 3); /* 8, 9, 10 are lost */
        IS(kws_ring_read(&ring, out, 4, &lost), 4);
        IS(lost, 0);
        IS(kws_ring_write(&ring, block + 11, 2), 0); /* one gap: nothing before it has been read */
        IS(kws_ring_read(&ring, out + 4, 20, &lost), 4);
        IS(lost, 0);
        IS(memcmp(out, block, 8 * sizeof *block), 0);
        IS(kws_ring_write(&ring, block + 11, 2), 0); /* the reader has not seen that it is empty */
        IS(kws_ring_read(&ring, out, 20, &lost), 0);
        IS(lost, 7);
        IS(kws_ring_write(&ring, block + 13, 2), 2);
        IS(kws_ring_read(&ring, out, 20, &lost), 2);
        IS(lost, 0);
        IS(out[0], 13);
        IS(kws_ring_read(&ring, out, 20, &lost), 0);
        IS(lost, 0);
    }
}

int main(void) {
    kws_answers();
    errors_stick();
    arguments();
    memory_of_the_application();
    errors_of_the_board();
    lost_samples();
    ring();
    if (failures == 0) {
        puts("all checks hold");
    }
    return failures;
}
