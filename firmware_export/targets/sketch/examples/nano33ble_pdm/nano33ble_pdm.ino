// SPDX-License-Identifier: Apache-2.0
// Keyword spotting on an Arduino Nano 33 BLE Sense, with its own microphone.
//
// The board has 64 MHz. By estimate: @AT_64_MHZ@.
// The self-test prints the cycles that it needs. Lines with "overrun" say how many samples were lost.

#include <PDM.h>

// Makes the Arduino build find TensorFlow Lite Micro, which the library includes.
#include <Chirale_TensorFlowLite.h>

#include <kws_ring.h>
#include <kws_run.h>

#if KWS_SAMPLE_RATE != 16000
#error "the PDM library has no other rate near speech than 16000 Hz on this board"
#endif

// Samples that wait while an inference runs: 512 ms in 16 KiB. The driver's interrupt writes, and the program reads.
static int16_t samplesThatWait[8192];
static kws_ring ring;
static KWS_ALIGNED uint8_t arena[KWS_ARENA_SIZE];
static kws_model model;
static kws_app app;
constexpr unsigned long kTimeoutMs = 1000;

// Empties the driver's buffer even if the ring is full, because the driver stops the microphone if nobody reads.
static void onPdm() {
  static int16_t chunk[256];
  for (;;) {
    const int bytes = PDM.read(chunk, sizeof chunk);
    if (bytes <= 0) {
      return;
    }
    kws_ring_write(&ring, chunk, static_cast<size_t>(bytes) / sizeof chunk[0], nullptr);
  }
}

static int startAudio(void *) {
  if (kws_ring_init(&ring, samplesThatWait, sizeof samplesThatWait / sizeof samplesThatWait[0]) != KWS_OK) {
    return -1;
  }
  PDM.onReceive(onPdm);
  return PDM.begin(1, KWS_SAMPLE_RATE) ? 0 : -2;
}

static void printLine(void *, const char *line) { Serial.println(line); }

static int readAudio(void *, int16_t *samples, size_t n, uint32_t *lost) {
  const unsigned long start = millis();
  for (;;) {
    size_t taken;
    kws_ring_read(&ring, samples, n, &taken, lost);
    if (taken > 0 || *lost > 0) {
      return static_cast<int>(taken);
    }
    if (millis() - start > kTimeoutMs) {
      printLine(nullptr, "the microphone is silent");
      return -3;
    }
    delay(1);
  }
}

// Counter of the processor's debug unit. It stands still while the processor sleeps.
static uint32_t countCycles(void *) { return DWT->CYCCNT; }

static const kws_port port = {nullptr, printLine, countCycles, startAudio, readAudio};

static void onKeyword(const kws_detection *detection, void *) {
  char line[96];
  snprintf(line, sizeof line, "%s (%u %%) at %lu ms", detection->keyword,
           static_cast<unsigned>(detection->score * 100.0f + 0.5f),
           static_cast<unsigned long>(detection->end * 1000 / KWS_SAMPLE_RATE));
  printLine(nullptr, line);
}

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 4000) {
  }
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;

  int error = 0;
  kws_status status = kws_model_init(&model, arena, sizeof arena);
  if (status == KWS_OK) {
    status = kws_app_init(&app, &model, onKeyword, nullptr);
  }
  if (status == KWS_OK) {
    status = kws_run(&app, &port, &error);
  }
  char line[64];
  snprintf(line, sizeof line, "ended with status %d, error %d of the board", static_cast<int>(status), error);
  printLine(nullptr, line);
}

void loop() { delay(1000); }
