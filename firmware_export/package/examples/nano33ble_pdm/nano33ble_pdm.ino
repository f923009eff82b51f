// Keyword spotting on an Arduino Nano 33 BLE Sense, with its own microphone.
//
// The board has 64 MHz. By estimate: @AT_64_MHZ@.
// The self-test prints what it takes; "overrun" lines say what was lost.

#include <PDM.h>

// Makes the Arduino build find TensorFlow Lite Micro, which the library includes.
#include <Chirale_TensorFlowLite.h>

#include <kws_hal.h>
#include <kws_ring.h>
#include <kws_run.h>

#if KWS_SAMPLE_RATE != 16000
#error "the PDM library has no other rate near speech than 16000 Hz on this board"
#endif

// Samples that wait while an inference runs: 512 ms, in 16 KiB. The driver's interrupt writes, the program reads.
static int16_t samplesThatWait[8192];
static kws_ring ring;
constexpr unsigned long kTimeoutMs = 1000;

// Empties the driver's buffer even where the ring is full: it stops the microphone when it finds its buffer unread.
static void onPdm() {
  static int16_t chunk[256];
  for (;;) {
    const int bytes = PDM.read(chunk, sizeof chunk);
    if (bytes <= 0) {
      return;
    }
    kws_ring_write(&ring, chunk, static_cast<size_t>(bytes) / sizeof chunk[0]);
  }
}

int kws_hal_audio_start(void) {
  if (kws_ring_init(&ring, samplesThatWait, sizeof samplesThatWait / sizeof samplesThatWait[0]) != KWS_OK) {
    return -1;
  }
  PDM.onReceive(onPdm);
  return PDM.begin(1, KWS_SAMPLE_RATE) ? 0 : -2;
}

int kws_hal_audio_read(int16_t *samples, size_t n) {
  const unsigned long start = millis();
  for (;;) {
    uint32_t lost;
    const size_t taken = kws_ring_read(&ring, samples, n, &lost);
    kws_run_lost(lost);
    if (taken > 0) {
      return static_cast<int>(taken);
    }
    if (millis() - start > kTimeoutMs) {
      kws_hal_print("the microphone is silent");
      return -3;
    }
    if (lost == 0) {
      delay(1);
    }
  }
}

void kws_hal_print(const char *line) { Serial.println(line); }

// Of the processor's debug unit; stands still while the processor sleeps.
uint32_t kws_hal_cycles(void) { return DWT->CYCCNT; }

static void onKeyword(const kws_detection *detection, void *) {
  char line[96];
  snprintf(line, sizeof line, "%s (%u %%) at %lu ms", detection->keyword,
           static_cast<unsigned>(detection->score * 100.0f + 0.5f),
           static_cast<unsigned long>(detection->end * 1000 / KWS_SAMPLE_RATE));
  kws_hal_print(line);
}

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 4000) {
  }
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;

  const int status = kws_run(onKeyword, nullptr);
  char line[48];
  snprintf(line, sizeof line, "kws_run returned %d", status);
  kws_hal_print(line);
}

void loop() { delay(1000); }
