// SPDX-License-Identifier: Apache-2.0
#include "recording_microphone.h"

static const size_t AHEAD = 4800;
static std::atomic<size_t> allowed{0}, played{0};
static std::atomic<bool> ended{false};

extern "C" void recording_heard(size_t samples) { allowed += samples; }
extern "C" bool recording_ended() { return ended; }

namespace esphome {
namespace recording {

void RecordingMicrophone::start() {
    allowed = played + AHEAD;
    this->state_ = microphone::STATE_RUNNING;
    if (!this->started_) {
        this->started_ = true;
        std::thread([this] { this->play_(); }).detach();
    }
}

void RecordingMicrophone::play_() {
    const bool follows = getenv("RECORDING_FOLLOWS") != nullptr;
    FILE *const file = fopen(getenv("RECORDING"), "rb");
    std::vector<uint8_t> block(2 * 320);
    auto due = std::chrono::steady_clock::now();
    for (size_t n; file != nullptr && (n = fread(block.data(), 1, block.size(), file)) > 0; played += n / 2) {
        block.resize(n);
        due += std::chrono::microseconds(n * 125 / 4);
        if (!follows) {
            std::this_thread::sleep_until(due);
        }
        while (follows && (played >= allowed || this->state_ != microphone::STATE_RUNNING)) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        if (this->state_ == microphone::STATE_RUNNING) {
            this->data_callbacks_.call(block);
        }
    }
    ended = true;
}

}  // namespace recording
}  // namespace esphome
