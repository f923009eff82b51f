/* SPDX-License-Identifier: Apache-2.0 */
/* What the exported functions do with errors, with arguments that are none, and with samples that were lost. Each check
 * that fails is a line; the exit status is their number. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "answers.h"
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
typedef struct board {
    int start_returns, read_returns, reads_left, last_read;
    uint32_t lost_before_next, cycles;
    size_t largest_read;
    char printed[200];
} board;

static int start_audio(void *context) { return ((board *)context)->start_returns; }

static int read_audio(void *context, int16_t *samples, size_t n_samples, uint32_t *lost) {
    board *const its = context;
    IS(*lost, 0);
    its->largest_read = n_samples > its->largest_read ? n_samples : its->largest_read;
    if (its->reads_left-- == 0) {
        return its->last_read;
    }
    *lost = its->lost_before_next;
    its->lost_before_next = 0;
    memset(samples, 0, n_samples * sizeof *samples);
    return its->read_returns < 0 ? (int)n_samples : its->read_returns;
}

static void print(void *context, const char *line) {
    board *const its = context;
    its->printed[0] = '\0';
    strncat(its->printed, line, sizeof its->printed - 1);
}

static uint32_t count_cycles(void *context) { return ((board *)context)->cycles += 1000; }

static kws_port port_of(board *its) {
    const kws_port port = {its, print, count_cycles, start_audio, read_audio};
    return port;
}

static KWS_ALIGNED uint8_t arena[KWS_ARENA_SIZE];
static kws_model model;

static int16_t silence[SECOND];
static kws_app *restarted; /* by reset_that_fails */

static void reset_that_fails(const kws_detection *found, void *context) {
    (void)found;
    ++*(int *)context;
    tflm_fails = 1;
    IS(kws_app_reset(restarted), KWS_ERR_INVOKE);
    tflm_fails = 0;
}

static void hear(const kws_detection *found, void *context) {
    (void)found;
    ++*(int *)context;
}

static void errors_stick(void) {
    static kws_app app;
    int heard = 0;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE); /* before kws_app_init */
    IS(kws_app_reset(&app), KWS_ERR_STATE);
    IS(kws_app_lost(&app, 5), KWS_ERR_STATE);
    memset(&app, 0xa5, sizeof app);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE);
    IS(kws_app_error(&app), KWS_ERR_STATE);
    memset(&model, 0xa5, sizeof model);
    IS(kws_model_input(&model) == NULL, true);
    IS(kws_model_reset(&model), KWS_ERR_STATE);
    IS(kws_model_arena_used(&model), 0);
    const int8_t *posteriors = NULL;
    IS(kws_model_invoke(&model, &posteriors), KWS_ERR_STATE);
    IS(posteriors == NULL, true);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_ERR_STATE);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE);

    tflm_need = KWS_ARENA_SIZE + 1; /* an initialisation that fails */
    IS(kws_model_init(&model, arena, sizeof arena), KWS_ERR_ARENA);
    IS(kws_model_invoke(&model, &posteriors), KWS_ERR_ARENA);
    IS(kws_model_input(&model) == NULL, true);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_ERR_ARENA);
    for (int second = 0; second < 10; second++) {
        IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARENA);
    }
    IS(kws_app_reset(&app), KWS_ERR_ARENA);
    IS(kws_app_lost(&app, 1), KWS_ERR_ARENA);
    IS(kws_app_error(&app), KWS_ERR_ARENA);
    IS(tflm_invoked, 0);
    tflm_need = 10000;
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARENA);
    IS(kws_model_init(&model, arena, sizeof arena), KWS_OK);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARENA);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK);
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
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK);
    IS(app.n_samples, 0);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK); /* twice */
    IS(app.n_samples, 0);
    IS(kws_app_process(&app, silence, SECOND), KWS_OK);
    IS(tflm_invoked > invoked, true);

    restarted = &app; /* a reset that fails in the callback */
    heard = 0;
    IS(kws_app_init(&app, &model, reset_that_fails, &heard), KWS_OK);
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
    IS(kws_app_init(NULL, &model, hear, &heard), KWS_ERR_ARGUMENT);
    IS(kws_app_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_app_error(NULL), KWS_ERR_ARGUMENT);
    IS(kws_app_lost(NULL, 1), KWS_ERR_ARGUMENT);
    IS(kws_app_process(NULL, silence, 1), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, NULL, hear, &heard), KWS_ERR_ARGUMENT);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, &model, NULL, &heard), KWS_ERR_ARGUMENT);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_ARGUMENT);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK);
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
    const int8_t *posteriors = NULL;
    IS(kws_model_invoke(&model, NULL), KWS_ERR_ARGUMENT);
    IS(kws_model_invoke(NULL, &posteriors), KWS_ERR_ARGUMENT);
    IS(kws_model_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_model_init(NULL, arena, sizeof arena), KWS_ERR_ARGUMENT);
    IS(kws_model_deinit(NULL), KWS_ERR_ARGUMENT);
    IS(kws_model_input(NULL) == NULL, true);
    IS(kws_model_arena_used(NULL), 0);

    bool frame = true;
    size_t taken = 99;
    static int8_t input[KWS_INPUT_SIZE];
    IS(kws_frontend_reset(NULL), KWS_ERR_ARGUMENT);
    IS(kws_frontend_features(NULL, input), KWS_ERR_ARGUMENT);
    IS(kws_frontend_features(&app.frontend, NULL), KWS_ERR_ARGUMENT);
    IS(kws_frontend_process(NULL, silence, 5, &taken, &frame), KWS_ERR_ARGUMENT);
    IS(frame, false);
    IS(taken, 0);
    frame = true;
    taken = 99;
    IS(kws_frontend_process(&app.frontend, NULL, 5, &taken, &frame), KWS_ERR_ARGUMENT);
    IS(kws_frontend_process(&app.frontend, silence, 5, &taken, NULL), KWS_ERR_ARGUMENT);
    IS(kws_frontend_process(&app.frontend, silence, 5, NULL, &frame), KWS_ERR_ARGUMENT);
    IS(kws_frontend_process(&app.frontend, silence, NEGATIVE(5), &taken, &frame), KWS_ERR_ARGUMENT);
    IS(frame, false);
    IS(taken, 0);
    IS(kws_frontend_process(&app.frontend, silence, 5, &taken, &frame), KWS_OK);
    IS(taken, 5);
    kws_detection found;
    bool detected = true;
    posteriors = kws_vector_stream[0];
    IS(kws_detector_reset(NULL), KWS_ERR_ARGUMENT);
    const kws_detector_config *const config = &kws_detector_defaults;
    IS(kws_detector_process(NULL, config, posteriors, 0, &found, &detected), KWS_ERR_ARGUMENT);
    IS(detected, false);
    IS(kws_detector_process(&app.detector, NULL, posteriors, 0, &found, &detected), KWS_ERR_ARGUMENT);
    IS(kws_detector_process(&app.detector, config, NULL, 0, &found, &detected), KWS_ERR_ARGUMENT);
    IS(kws_detector_process(&app.detector, config, posteriors, 0, NULL, &detected), KWS_ERR_ARGUMENT);
    IS(kws_detector_process(&app.detector, config, posteriors, 0, &found, NULL), KWS_ERR_ARGUMENT);
    const float nought = (float)app.lost;
    IS(kws_quantize(nought / nought, 1.0f, 0), -128);
    IS(kws_quantize(1.0f / nought, 1.0f, 0), 127);
    IS(kws_quantize(-1.0f / nought, 1.0f, 0), -128);
}

static void self_test(void) {
    static kws_app app;
    static int8_t input[KWS_INPUT_SIZE];
    board its = {0};
    int heard = 0;
    const kws_port port = port_of(&its), mute = {.cycles = count_cycles, .context = &its};
    kws_self_test_findings findings = {&port, 0, 0}, of_mute = {&mute, 0, 0};
    IS(kws_self_test(&port, &app), KWS_ERR_STATE);
    IS(strstr(its.printed, "kws_app_init") != NULL, true);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK);
    IS(kws_self_test(NULL, &app), KWS_ERR_ARGUMENT);
    IS(kws_self_test(&mute, &app), KWS_ERR_ARGUMENT);
    IS(kws_self_test(&port, NULL), KWS_ERR_ARGUMENT);
    IS(kws_self_test_frontend(&findings, NULL, input), KWS_ERR_ARGUMENT);
    IS(kws_self_test_frontend(&findings, &app.frontend, NULL), KWS_ERR_ARGUMENT);
    IS(kws_self_test_inference(&findings, NULL, &model), KWS_ERR_ARGUMENT);
    IS(kws_self_test_inference(&findings, &app.frontend, NULL), KWS_ERR_ARGUMENT);
    IS(kws_self_test_detector(&findings, NULL), KWS_ERR_ARGUMENT);
    IS(kws_self_test_detector(NULL, &app.detector), KWS_ERR_ARGUMENT);
    IS(kws_self_test_detector(&of_mute, &app.detector), KWS_ERR_ARGUMENT);
    IS(findings.failures, 0);
    IS(kws_self_test(&port, &app), KWS_OK);
    IS(strcmp(its.printed, "self-test passed"), 0);
    tflm_fails = 1; /* each inference, and the model's reset */
    IS(kws_self_test(&port, &app), KWS_ERR_SELF_TEST);
    IS(strcmp(its.printed, "self-test FAILED: 1 checks"), 0);
    tflm_fails = 0;
}

static void memory_of_the_application(void) {
    static KWS_ALIGNED uint8_t mine[KWS_ARENA_SIZE + 16];
    static kws_app app;
    int heard = 0;
    IS(kws_app_sizeof(), sizeof app);
    IS(kws_model_sizeof(), sizeof model);
    IS((uintptr_t)mine % 16, 0);
    IS(kws_model_init(&model, NULL, sizeof mine), KWS_ERR_ARGUMENT);
    IS(kws_model_reset(&model), KWS_ERR_ARGUMENT);
    IS(kws_model_init(&model, mine, 1023), KWS_ERR_ARGUMENT);
    IS(kws_model_init(&model, mine, NEGATIVE(1)), KWS_ERR_ARGUMENT);
    IS(kws_model_init(&model, mine, 1024), KWS_ERR_ARENA);
    IS(kws_model_init(&model, mine, sizeof mine), KWS_OK);
    IS(kws_app_init(&app, &model, hear, &heard), KWS_OK);
    IS(tflm_arena == mine, true);
    IS(tflm_arena_bytes, sizeof mine);
    IS(kws_model_arena_used(&model), tflm_need);
    IS(kws_model_deinit(&model), KWS_OK);
    IS(kws_model_deinit(&model), KWS_OK);
    memset(mine, 0, sizeof mine);
    IS(kws_app_process(&app, silence, SECOND), KWS_ERR_STATE);
    IS(kws_model_init(&model, arena, sizeof arena), KWS_OK);
    IS(tflm_arena == arena, true);
}

/* A stream, and a hash of what was detected in it, with the features that decided. */
typedef struct stream {
    kws_app app;
    uint32_t hash;
    const int16_t *audio;
} stream;

static void record(const kws_detection *found, void *context) {
    stream *const its = context;
    const int8_t *const features = kws_model_input(its->app.model);
    its->hash = its->hash * 31u + (uint32_t)found->label + (uint32_t)found->end;
    for (int i = 0; i < KWS_INPUT_SIZE; i++) {
        its->hash = (its->hash ^ (uint8_t)features[i]) * 16777619u;
    }
}

/* Two streams of two kws_model, in turns, each with samples of its own: as each alone. */
static void two_at_once(void) {
    static KWS_ALIGNED uint8_t memory[KWS_ARENA_SIZE];
    static kws_model second;
    static stream streams[2];
    kws_model *const models[2] = {&model, &second};
    uint32_t alone[2] = {0, 0};
    streams[0].audio = silence;
    streams[1].audio = kws_vector_audio;
    IS(kws_model_init(&second, memory, sizeof memory), KWS_OK);
    for (int turn = 0; turn < 3; turn++) { /* the first alone, the second alone, both */
        for (int which = 0; which < 2; which++) {
            streams[which].hash = 0;
            IS(kws_app_init(&streams[which].app, models[which], record, &streams[which]), KWS_OK);
        }
        for (int step = 0; step < 600; step++) {
            for (int which = 0; which < 2; which++) {
                if (turn == 2 || turn == which) {
                    const size_t n = which == 0 ? SECOND / 10 : 1234;
                    IS(kws_app_process(&streams[which].app, streams[which].audio, n), KWS_OK);
                }
            }
        }
        if (turn < 2) {
            alone[turn] = streams[turn].hash;
            IS(streams[1 - turn].hash, 0);
        }
    }
    IS(alone[0] != 0 && alone[1] != 0 && alone[0] != alone[1], true);
    IS(streams[0].hash, alone[0]);
    IS(streams[1].hash, alone[1]);
    IS(kws_model_deinit(&second), KWS_OK);
    IS(kws_app_process(&streams[1].app, silence, SECOND), KWS_ERR_STATE);
    IS(kws_app_process(&streams[0].app, silence, SECOND), KWS_OK);
}

static kws_app ours; /* of `run` */

/* kws_run, whose board returns `last` after some reads. */
static kws_status run(int start, int read, int last, uint32_t lost, int *port_error, board *its) {
    static int heard;
    const board before = {
        .start_returns = start, .read_returns = read, .reads_left = 30, .last_read = last, .lost_before_next = lost};
    *its = before;
    const kws_port port = port_of(its);
    IS(kws_app_init(&ours, &model, hear, &heard), KWS_OK);
    return kws_run(&ours, &port, port_error);
}

static void errors_of_the_board(void) {
    const int numbers[] = {-1, -2, -3, -110, -0x105, -0xffff, -30000, KWS_ERR_ARENA, KWS_ERR_LAST, -2130706432};
    board its;
    int error = 1;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        IS(run(numbers[i], -1, 0, 0, &error, &its), KWS_ERR_PORT);
        IS(error, numbers[i]);
        IS(run(0, -1, numbers[i], 0, &error, &its), KWS_ERR_PORT);
        IS(error, numbers[i]);
    }
    IS(its.largest_read <= KWS_HOP_LENGTH, true);
    IS(run(0x105, -1, 0, 0, &error, &its), KWS_ERR_PORT); /* an esp_err_t as it is */
    IS(error, 0x105);
    IS(run(0, -1, KWS_HOP_LENGTH + 1, 0, &error, &its), KWS_ERR_PORT);
    IS(error, KWS_HOP_LENGTH + 1);
    IS(run(0, 0, -5, 0, &error, &its), KWS_ERR_PORT); /* reads that time out */
    IS(error, -5);
    IS(run(0, 0, -5, 0, NULL, &its), KWS_ERR_PORT);
    const kws_port whole = port_of(&its);
    kws_port port = whole;
    error = 1;
    IS(kws_run(NULL, &port, &error), KWS_ERR_ARGUMENT);
    IS(error, 0);
    IS(kws_run(&ours, NULL, &error), KWS_ERR_ARGUMENT);
    port.print = NULL;
    IS(kws_run(&ours, &port, &error), KWS_ERR_ARGUMENT);
    port = whole;
    port.audio_read = NULL;
    IS(kws_run(&ours, &port, &error), KWS_ERR_ARGUMENT);
    port = whole;
    port.audio_start = NULL; /* it runs already */
    its.start_returns = its.last_read = -8;
    its.reads_left = 3;
    IS(kws_run(&ours, &port, &error), KWS_ERR_PORT);
    IS(error, -8);
    IS(its.reads_left, -1);
    kws_app never;
    memset(&never, 0, sizeof never);
    IS(kws_run(&never, &port, &error), KWS_ERR_STATE);
}

static void lost_samples(void) {
    board its;
    int error;
    IS(run(0, -1, -9, 12345, &error, &its), KWS_ERR_PORT);
    IS(error, -9);
    IS(ours.lost, 12345);
    IS(ours.overruns, 1);
    IS(ours.n_samples, 12345 + 30 * its.largest_read);
    IS(strstr(its.printed, "12345 samples were lost") != NULL, true);
    IS(run(0, -1, -9, 0, &error, &its), KWS_ERR_PORT);
    IS(ours.lost, 0);
}

static void ring(void) {
    static int16_t memory[8], block[20], out[20];
    static kws_ring ring;
    size_t taken = 99;
    uint32_t lost = 99;
    for (int16_t i = 0; i < 20; i++) {
        block[i] = i;
    }
    IS(kws_ring_write(&ring, block, 3, &taken), KWS_ERR_STATE); /* before kws_ring_init */
    IS(taken, 0);
    IS(kws_ring_read(&ring, out, 3, &taken, &lost), KWS_ERR_STATE);
    IS(kws_ring_init(NULL, memory, 8), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, NULL, 8), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 0), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 1), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 6), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 0x80000000u), KWS_ERR_ARGUMENT);
    IS(kws_ring_init(&ring, memory, 8), KWS_OK);
    taken = 99;
    IS(kws_ring_write(NULL, block, 3, &taken), KWS_ERR_ARGUMENT);
    IS(taken, 0);
    IS(kws_ring_write(&ring, NULL, 3, NULL), KWS_ERR_ARGUMENT);
    IS(kws_ring_write(&ring, block, NEGATIVE(3), NULL), KWS_ERR_ARGUMENT);
    taken = lost = 99;
    IS(kws_ring_read(NULL, out, 3, &taken, &lost), KWS_ERR_ARGUMENT);
    IS(taken, 0);
    IS(lost, 0);
    lost = 99;
    IS(kws_ring_read(&ring, NULL, 3, &taken, &lost), KWS_ERR_ARGUMENT);
    IS(lost, 0);
    IS(kws_ring_read(&ring, out, 3, &taken, NULL), KWS_ERR_ARGUMENT);
    IS(kws_ring_read(&ring, out, 3, NULL, &lost), KWS_ERR_ARGUMENT);
    IS(kws_ring_read(&ring, out, 3, &taken, &lost), KWS_OK);
    IS(taken, 0);
    IS(lost, 0);
    ring.written = ring.taken = UINT32_MAX - 4; /* counters wrap */
    ring.lost = ring.told = UINT32_MAX - 3;
    for (int round = 0; round < 5; round++) {
        IS(kws_ring_write(&ring, block, 5, &taken), KWS_OK);
        IS(taken, 5);
        IS(kws_ring_write(&ring, block + 5, 6, &taken), KWS_OK);
        IS(taken, 3); /* 8, 9, 10 are lost */
        IS(kws_ring_read(&ring, out, 4, &taken, &lost), KWS_OK);
        IS(taken, 4);
        IS(lost, 0);
        IS(kws_ring_write(&ring, block + 11, 2, &taken), KWS_OK);
        IS(taken, 0); /* one gap: nothing before it has been read */
        IS(kws_ring_read(&ring, out + 4, 20, &taken, &lost), KWS_OK);
        IS(taken, 4);
        IS(lost, 0);
        IS(memcmp(out, block, 8 * sizeof *block), 0);
        IS(kws_ring_write(&ring, block + 11, 2, &taken), KWS_OK);
        IS(taken, 0); /* the reader has not seen that it is empty */
        IS(kws_ring_read(&ring, out, 20, &taken, &lost), KWS_OK);
        IS(taken, 0);
        IS(lost, 7);
        IS(kws_ring_write(&ring, block + 13, 2, &taken), KWS_OK);
        IS(taken, 2);
        IS(kws_ring_read(&ring, out, 20, &taken, &lost), KWS_OK);
        IS(taken, 2);
        IS(lost, 0);
        IS(out[0], 13);
        IS(kws_ring_read(&ring, out, 20, &taken, &lost), KWS_OK);
        IS(taken, 0);
        IS(lost, 0);
    }
}

int main(void) {
    kws_answers();
    errors_stick();
    arguments();
    self_test();
    memory_of_the_application();
    two_at_once();
    errors_of_the_board();
    lost_samples();
    ring();
    if (failures == 0) {
        puts("all checks hold");
    }
    return failures;
}
