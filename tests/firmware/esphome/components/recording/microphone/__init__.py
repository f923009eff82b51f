"""A microphone that plays a raw file of int16 samples, a block each time they are due."""

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.components import audio, microphone
from esphome.const import CONF_ID, CONF_PATH, CONF_SPEED

recording_ns = cg.esphome_ns.namespace("recording")
RecordingMicrophone = recording_ns.class_("RecordingMicrophone", microphone.Microphone, cg.Component)

def _limits(config):
    audio.set_stream_limits(
        min_bits_per_sample=16,
        max_bits_per_sample=16,
        min_channels=1,
        max_channels=1,
        min_sample_rate=16000,
        max_sample_rate=16000,
    )(config)
    return config


CONFIG_SCHEMA = cv.All(
    microphone.MICROPHONE_SCHEMA.extend(
        {
            cv.GenerateID(): cv.declare_id(RecordingMicrophone),
            cv.Required(CONF_PATH): cv.string,
            cv.Optional(CONF_SPEED, default=1.0): cv.positive_float,
        }
    ).extend(cv.COMPONENT_SCHEMA),
    _limits,
)


async def to_code(config):
    var = cg.new_Pvariable(config[CONF_ID], config[CONF_PATH], config[CONF_SPEED])
    await cg.register_component(var, config)
    await microphone.register_microphone(var, config)
