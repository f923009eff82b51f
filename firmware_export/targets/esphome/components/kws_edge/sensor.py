"""Sensors of the component: the level of the microphone, and the score of the last word."""

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.components import sensor
from esphome.components.kws_edge import KwsEdge
from esphome.const import STATE_CLASS_MEASUREMENT, UNIT_DECIBEL, UNIT_PERCENT

CONF_KWS_EDGE_ID = "kws_edge_id"
CONF_LEVEL = "level"
CONF_SCORE = "score"

CONFIG_SCHEMA = cv.Schema(
    {
        cv.GenerateID(CONF_KWS_EDGE_ID): cv.use_id(KwsEdge),
        cv.Optional(CONF_LEVEL): sensor.sensor_schema(
            unit_of_measurement=UNIT_DECIBEL, accuracy_decimals=1, state_class=STATE_CLASS_MEASUREMENT
        ),
        cv.Optional(CONF_SCORE): sensor.sensor_schema(
            unit_of_measurement=UNIT_PERCENT, accuracy_decimals=0, state_class=STATE_CLASS_MEASUREMENT
        ),
    }
)


async def to_code(config):
    parent = await cg.get_variable(config[CONF_KWS_EDGE_ID])
    if CONF_LEVEL in config:
        cg.add(parent.set_level_sensor(await sensor.new_sensor(config[CONF_LEVEL])))
    if CONF_SCORE in config:
        cg.add(parent.set_score_sensor(await sensor.new_sensor(config[CONF_SCORE])))
