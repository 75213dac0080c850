// Command forgot is the Lambda function behind POST /admin/forgot.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Forgot, mail.Need)) }
