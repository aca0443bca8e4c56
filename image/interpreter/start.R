# Runs the R kernel, so that the value of the last expression is the result of
# the code. IRkernel shows each value alike, as a display.
atoll_kernel <- function(file) {
  kernel <- IRkernel:::Kernel$new(connection_file = file)
  executor <- kernel$executor
  send <- executor$send_response
  handle_value <- executor$handle_value
  send_plot <- executor$send_plot
  value <- NULL # what to send of the value that was shown last
  of_value <- of_plot <- FALSE

  # A value is the result if nothing comes after it but the end.
  flush <- function(type, content) {
    if (is.null(value)) return()
    last <- value
    value <<- NULL
    send(type, last$request, "iopub", c(last$content, content))
  }

  executor$send_response <- function(type, request, socket, content) {
    if (of_value && type == "display_data") {
      value <<- list(request = request, content = content)
      return(invisible())
    }
    if (of_plot) return(send(type, request, socket, content)) # of code before the value
    if (type == "execute_reply" && content$status == "ok") {
      flush("execute_result", list(execution_count = content$execution_count))
    } else {
      flush("display_data", NULL)
    }
    send(type, request, socket, content)
  }

  shown <- function(obj, visible) {
    flush("display_data", NULL)
    of_value <<- TRUE
    on.exit(of_value <<- FALSE)
    handle_value(obj, visible)
  }
  plotted <- function(plot) {
    of_plot <<- TRUE
    on.exit(of_plot <<- FALSE)
    send_plot(plot)
  }

  replace <- function(method, with) {
    object <- as.environment(executor)
    if (bindingIsLocked(method, object)) unlockBinding(method, object)
    assign(method, with, envir = object)
  }
  replace("handle_value", shown)
  replace("send_plot", plotted)
  kernel$run()
}
atoll_kernel(commandArgs(TRUE)[[1]])
