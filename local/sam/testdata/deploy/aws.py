"""Serves moto's APIs of AWS until stdin is closed. It prints its URL when it listens.

moto's CloudFormation executes every change set. Here it is told how one ends: as the file "end" in the
working directory says, such as ROLLBACK_COMPLETE."""

import logging
import pathlib
import sys

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.server import ThreadedMotoServer

UNUSABLE = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}  # all that is left is to delete it
MANAGED = "aws-sam-cli-managed-default"  # SAM CLI's own stack, with its bucket

create_change_set = CloudFormationBackend.create_change_set
execute_change_set = CloudFormationBackend.execute_change_set


def create(self, stack_name, *args, **kwargs):
    for stack in list(self.stacks.values()):
        if stack.name == stack_name and stack.status in UNUSABLE:
            raise ValidationError(stack_name, message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
        if stack.name == stack_name and stack.status == "REVIEW_IN_PROGRESS":
            del self.stacks[stack.stack_id]  # moto would make a second one
    return create_change_set(self, stack_name, *args, **kwargs)


def execute(self, change_set_name, stack_name=None):
    execute_change_set(self, change_set_name, stack_name)
    end = pathlib.Path("end")
    for stack in self.stacks.values():
        stack._parse_template()
        stack.output_map = stack._create_output_map()  # moto makes them with an empty template
        if stack.name != MANAGED and end.exists() and end.read_text():
            stack.status = end.read_text()
            stack._add_stack_event(stack.status)


CloudFormationBackend.create_change_set = create
CloudFormationBackend.execute_change_set = execute
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(f"http://localhost:{server.get_host_and_port()[1]}", flush=True)
sys.stdin.read()
