// Command reset is the Lambda function behind POST /admin/reset.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Reset, wire.Mails, wire.Passwords, wire.PasswordRules)) }
