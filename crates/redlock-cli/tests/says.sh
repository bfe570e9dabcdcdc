#!/bin/sh
# A command that says its name and its arguments.
echo "${0##*/}" "$@"
